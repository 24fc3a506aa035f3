//! Rows that make no sense: each is scored or skipped by name, whatever its cells hold, and the rows beside it are scored.

use std::path::Path;

use cutplane_score::{Profile, rows_of, score_rows, summarise};

const HEADER: &str = "source,model,params,layers,hidden,heads,kv_heads,ffn_hidden,vocab,seq_len,micro_batch,global_batch,hardware,\
gpus,gpus_per_node,interconnect,dp,tp,pp,vpp,cp,ep,zero_stage_or_fsdp,sequence_parallel,recompute,precision,flash_attention,\
framework,metric_name,metric_value,metric_unit,memory_gb,workload,op,message_bytes,input_len,output_len,concurrency";

const GOOD: [&str; 5] = [
    "s,GPT,,24,2048,16,16,8192,51200,2048,4,512,A100-SXM-80GB,64,8,NVLink + 8x200Gb/s HDR,8,8,1,1,1,1,0,yes,selective,bf16,no,\
Megatron-LM,iteration_time,3.5,s,40,training,,,,,",
    "s,ResNet-50,,,,,,,,,64,64,V100-SXM2-16GB,1,1,,1,1,1,,,,,,,fp16,,PyTorch,throughput,800,images/s,,training,,,,,",
    "s,Llama-2-7B,,32,4096,32,32,11008,32000,2048,,1,H100-SXM-80GB,1,1,,1,1,1,,,,,,,fp16,,FasterTransformer,latency,900,ms,,\
inference,,,512,32,1",
    "s,,,,,,,,,,,,A100-SXM-80GB,8,8,NVLink,,,,,,,,,,,,NCCL,time,250,us,,collective,all_reduce,67108864,,,",
    "s,,,,4096,,,,,,,,A100-SXM-80GB,1,,,,,,,,,,,,fp16,,cuBLAS,time,100,us,,kernel,gemm m=4096 n=4096 k=4096,,,,",
];

const CELLS: [&str; 18] = [
    "",
    "0",
    "-1",
    "1",
    "3",
    "3.5",
    "1e7",
    "99999999",
    "1e30",
    "nan",
    "inf",
    "x",
    "ep8 tp4",
    "100000000000000000000",
    "A100",
    "ZeRO-3",
    "full",
    "\"a,b\"",
];

#[test]
fn absurd_cells_are_skipped_and_nothing_panics() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut state = 1_u64;
    let mut below = |count: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % count
    };
    let cells: Vec<Vec<&str>> = GOOD.iter().map(|row| row.split(',').collect()).collect();
    let mut text = HEADER.to_owned();
    for _ in 0..6_000 {
        let mut row = cells[below(cells.len())].clone();
        for _ in 0..=below(3) {
            let (at, other) = (below(row.len()), below(cells.len()));
            row[at] =
                if below(2) == 0 { CELLS[below(CELLS.len())] } else { cells[other].get(at).copied().unwrap_or("") };
        }
        text += &format!("\n{}", row.join(","));
    }
    text += &format!("\n{}\n", GOOD.join("\n"));
    let rows = rows_of(Path::new("rows.csv"), text.as_bytes()).expect("readable").rows;
    let (count, sources) = (rows.len(), summarise(&score_rows(rows, &Profile::default()), cutplane_score::Grades::AB));
    let scored: usize = sources.iter().map(|source| source.rows_scored).sum();
    assert_eq!(count, 6_000 + GOOD.len());
    assert!(scored > 500, "most mutations are harmless, got {scored}");
    let panics: usize = sources.iter().filter_map(|source| source.skipped.get("not-computable")).sum();
    assert_eq!(panics, 0, "a cost model gave up on {panics} rows");
}

#[test]
fn rows_that_a_table_mangled_are_skipped_and_the_others_scored() {
    let good = GOOD[0];
    let short = good.strip_suffix(",,,,,").expect("open cells at the end");
    let mut bytes = format!("{HEADER},grade\n{good},A\n{good},A,extra\n{short}\n{good},A?\n").into_bytes();
    bytes.extend(format!("{good},A\n").into_bytes().into_iter().map(|byte| if byte == b'G' { 0xff } else { byte }));
    let rows = rows_of(Path::new("rows.csv"), &bytes).expect("readable").rows;
    assert_eq!(rows.len(), 5);
    let sources = summarise(&score_rows(rows, &Profile::default()), cutplane_score::Grades::AB);
    assert_eq!(sources[0].skipped.get("unreadable-number"), Some(&3), "{:?}", sources[0].skipped);
    assert!(sources[0].rows_scored > 0);
}
