//! Discrete-event execution of a program in virtual time.
