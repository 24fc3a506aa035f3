//! Parameters of one case, read by name and type.

use std::path::PathBuf;

use crate::value::{Parameters, Value};

/// One question to a kind.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The parameters.
    pub parameters: &'a Parameters,
    /// Folders that relative file names are looked for in.
    pub folders: &'a [PathBuf],
    /// Seed of everything random.
    pub seed: u64,
}

impl Ask<'_> {
    /// The parameter, if it is given.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.parameters.get(name)
    }

    /// Text, if it is given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str, String> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Text(text)) => Ok(text),
            Some(other) => Err(format!("'{name}' is {other}: write text")),
        }
    }

    /// Text that must be given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn text(&self, name: &str) -> Result<&str, String> {
        match self.get(name) {
            None => Err(missing(name)),
            Some(_) => self.text_or(name, ""),
        }
    }

    /// A number, if it is given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn number_or(&self, name: &str, default: f64) -> Result<f64, String> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.number().filter(|number| number.is_finite()).ok_or_else(|| format!("'{name}' is {value}: write a number"))
    }

    /// A number that must be given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn number(&self, name: &str) -> Result<f64, String> {
        self.get(name).ok_or_else(|| missing(name)).and_then(|_| self.number_or(name, 0.0))
    }

    /// A whole number from 1, if it is given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn count_or(&self, name: &str, default: u64) -> Result<u64, String> {
        let number = self.number_or(name, default as f64)?;
        if number.fract() == 0.0 && (1.0..=1e15).contains(&number) {
            return Ok(number as u64);
        }
        Err(format!("'{name}' is {number}: write a whole number from 1"))
    }

    /// A whole number from 1 that must be given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn count(&self, name: &str) -> Result<u64, String> {
        self.get(name).ok_or_else(|| missing(name)).and_then(|_| self.count_or(name, 1))
    }

    /// Yes or no, if it is given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(other) => Err(format!("'{name}' is {other}: write true or false")),
        }
    }

    /// One number for each of `count` things: a list of as many, or a number for all.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn each(&self, name: &str, count: usize, default: f64) -> Result<Vec<f64>, String> {
        match self.get(name) {
            Some(Value::List(list)) if list.len() == count => Ok(list.clone()),
            Some(Value::List(list)) => Err(format!("'{name}' has {} numbers: write {count}, or one", list.len())),
            _ => Ok(vec![self.number_or(name, default)?; count]),
        }
    }

    /// A list of numbers, if it is given.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn list(&self, name: &str) -> Result<Option<&[f64]>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(other) => Err(format!("'{name}' is {other}: write a list of numbers")),
        }
    }

    /// Where a file is: the first folder that has it.
    ///
    /// # Errors
    /// What is wrong with the parameter, by its name, and what to write.
    pub fn file(&self, name: &str) -> Result<PathBuf, String> {
        let file = self.text(name)?;
        let places = self.folders.iter().map(|folder| folder.join(file));
        places.into_iter().find(|path| path.exists()).ok_or_else(|| format!("'{name}': there is no file '{file}'"))
    }
}

fn missing(name: &str) -> String {
    format!("'{name}' is missing: add it to the run's fixed parameters, its sweep or its table")
}
