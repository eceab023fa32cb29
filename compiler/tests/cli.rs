//! The command line as scripts see it: names, JSON keys, exit codes, and nothing left behind by failures.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pare_runtime::format::crc32;
use serde_json::Value;

/// A place of its own for files and caches.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pare(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pare"));
        command.current_dir(self.dir.path()).env("PARE_CACHE", self.path("cache")).args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.pare(&[args, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} failed: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?} printed no JSON: {e}"))
    }

    /// Runs what must fail: one line on standard error, nothing on standard output.
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.pare(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?} said: {said}");
        assert!(output.stdout.is_empty(), "{args:?} printed a result");
        said
    }

    /// A blob of the built-in network.
    fn blob(&self) -> String {
        let out = self.path("compiled");
        self.json(&["compile", "--bits", "w4a8", "--out", out.to_str().unwrap(), "--limit", "64"]);
        out.join("glyphs.pare").to_str().unwrap().to_owned()
    }
}

fn keys(value: &Value, wanted: &[&str]) {
    for key in wanted {
        assert!(value.get(key).is_some(), "no `{key}` in {value}");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/ops").join(name)
}

#[test]
fn every_command_prints_the_keys_that_scripts_rely_on() {
    let bench = Bench::new();
    let out = bench.path("out");
    let compiled = bench.json(&["compile", "--bits", "w4a8", "--out", out.to_str().unwrap(), "--limit", "256"]);
    keys(
        &compiled,
        &[
            "accuracy_float",
            "accuracy",
            "n",
            "blob_bytes",
            "weight_bytes",
            "arena_bytes",
            "latency",
            "macs",
            "bitops",
            "digest",
            "wall_s",
            "files",
        ],
    );
    keys(&compiled["latency"], &["value", "unit"]);
    for file in ["blob", "object", "header", "rust", "policy", "report", "report_json"] {
        let path = compiled["files"][file].as_str().unwrap_or_else(|| panic!("no file `{file}`"));
        assert!(bench.dir.path().join(path).is_file(), "{path} is not there");
    }
    let blob = out.join("glyphs.pare").to_str().unwrap().to_owned();
    assert_eq!(compiled["blob_bytes"], std::fs::metadata(&blob).unwrap().len());

    let scored = bench.json(&["eval", &blob, "--limit", "256"]);
    keys(&scored, &["metric", "value", "n"]);
    assert_eq!(scored["value"], compiled["accuracy"], "eval and compile score the same blob alike");
    let timed = bench.json(&["bench", &blob, "--runs", "5", "--layers"]);
    keys(&timed, &["target", "unit", "median", "p10", "min", "runs", "isa", "layers"]);
    keys(&timed["layers"][0], &["name", "kernel", "macs", "w_bits", "a_bits", "median"]);
    keys(&bench.json(&["inspect", &blob]), &["kind", "blob_bytes", "weight_bytes", "arena_bytes", "layers"]);
    let verified = bench.json(&["verify", &blob, "--limit", "8"]);
    keys(&verified, &["bit_exact", "n", "agreement"]);
    assert_eq!(verified["bit_exact"], true);
    let checked = bench.json(&["import", golden("conv.onnx").to_str().unwrap(), "--check"]);
    keys(&checked, &["supported", "unsupported"]);
    keys(&bench.json(&["targets"]), &["targets"]);
}

#[test]
fn threads_share_inferences_on_this_machine_alone() {
    let bench = Bench::new();
    let blob = bench.blob();
    assert_eq!(bench.json(&["bench", &blob, "--runs", "5", "--threads", "2"])["threads"], 2);
    assert_eq!(bench.json(&["verify", &blob, "--limit", "8", "--threads", "2"])["bit_exact"], true);
    let score = |threads| bench.json(&["eval", &blob, "--limit", "64", "--threads", threads])["value"].clone();
    assert_eq!(score("1"), score("2"));
    let said = bench.fails(&["bench", &blob, "--target", "cortex-m4", "--threads", "2"], 2);
    assert!(said.contains("leave out --threads"), "{said}");
}

#[test]
fn the_same_command_gives_the_same_bytes() {
    let bench = Bench::new();
    let digest =
        |out: &str| bench.json(&["compile", "--bits", "w3a8", "--out", out, "--limit", "16"])["digest"].clone();
    assert_eq!(digest("a"), digest("b"));
}

#[test]
fn searches_keep_budgets_and_resume_from_their_cache() {
    let bench = Bench::new();
    let args = ["search", "--max-flash", "20KiB"];
    let first = bench.json(&args);
    keys(&first, &["front", "policy"]);
    assert!(first["chosen"]["blob_bytes"].as_f64().unwrap() <= 20.0 * 1024.0);
    let again = bench.json(&args);
    assert_eq!(first["policy"], again["policy"]);
    assert!(again["wall_s"].as_f64().unwrap() < 1.0, "{} s from cache", again["wall_s"]);
}

#[test]
fn arrays_go_in_and_out() {
    let bench = Bench::new();
    let blob = bench.blob();
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    let mut header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 32, 32, 1), }".to_owned();
    header += &" ".repeat((64 - (11 + header.len()) % 64) % 64);
    header.push('\n');
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend((0..2048u32).map(|i| (i * 7 % 251) as u8));
    std::fs::write(bench.path("x.npy"), npy).unwrap();
    let output = bench.json(&["run", &blob, "--input", "x.npy", "--output", "y.npy"]);
    let rows = output["outputs"].as_array().unwrap();
    assert_eq!((rows.len(), rows[0].as_array().unwrap().len()), (2, 10));
    assert!(bench.path("y.npy").is_file());
}

#[test]
fn a_policy_that_is_given_keeps_the_budget_too() {
    let bench = Bench::new();
    let compile = |budget: &[&str], code: i32| {
        let said =
            bench.fails(&[&["compile", "--bits", "w2a8", "--limit", "16", "--out", "out"], budget].concat(), code);
        assert!(!bench.path("out").exists(), "a failed compilation left files behind");
        said
    };
    assert!(compile(&["--max-macs", "1K"], 1).contains("--max-macs"));
    assert!(compile(&["--max-bitops", "1K"], 1).contains("--max-bitops"));
    assert!(compile(&["--max-latency", "1ns"], 1).contains("--max-latency"));
    assert!(compile(&["--min-accuracy", "0.999"], 1).contains("0.999"));
    assert!(compile(&["--max-latency", "5cycles"], 2).contains("cycles"));
}

#[test]
fn one_backend_is_held_against_the_reference() {
    let bench = Bench::new();
    let verified = bench.json(&["verify", &bench.blob(), "--limit", "2", "--backends", "portable"]);
    assert_eq!(verified["backends"], serde_json::json!(["reference", "portable"]));
    let model = golden("conv.onnx");
    let said = bench.fails(&["verify", &bench.blob(), "--limit", "2", "--float", model.to_str().unwrap()], 2);
    assert!(said.contains("conv.onnx"), "{said}");
}

#[test]
fn measured_tables_are_the_ones_that_searches_go_by() {
    let bench = Bench::new();
    std::fs::write(bench.path("seeds"), "fully_connected 1 1 16 8 1 1\n").unwrap();
    let first = bench.json(&["measure", "--seeds", "seeds"]);
    std::fs::write(bench.path("seeds"), "fully_connected 1 1 32 8 1 1\n").unwrap();
    let second = bench.json(&["measure", "--seeds", "seeds"]);
    assert_eq!(first["table"], second["table"]);
    assert_eq!(second["rows"].as_u64().unwrap(), 2 * first["rows"].as_u64().unwrap());
    assert!(Path::new(second["table"].as_str().unwrap()).starts_with(bench.path("cache")));
}

#[test]
fn activations_of_one_bit_compile_and_are_measured_in_every_layout() {
    let bench = Bench::new();
    let out = bench.path("out");
    let compiled =
        bench.json(&["compile", "--bits", "w1a1", "--all-layers", "--limit", "16", "--out", out.to_str().unwrap()]);
    assert_eq!(compiled["n"], 16);
    // Exit code 0: every instruction set gives the same bytes.
    bench.json(&["verify", out.join("glyphs.pare").to_str().unwrap(), "--limit", "2"]);
    bench.fails(&["compile", "--bits", "w1a0", "--limit", "16"], 2);

    std::fs::write(bench.path("seeds"), "conv2d 4 4 16 16 3 1\n").unwrap();
    let measured = bench.json(&["measure", "--seeds", "seeds", "--activation-bits", "1,8", "--out", "table.json"]);
    let widths = measured["widths"].as_array().unwrap();
    assert!(widths.iter().any(|w| w["weights"] == "w1" && w["activation_bits"] == 1 && w["shapes"] == 1), "{measured}");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(bench.path("table.json")).unwrap()).unwrap();
    let layouts: BTreeSet<&str> =
        table["rows"].as_array().unwrap().iter().filter_map(|r| r["layout"].as_str()).collect();
    if measured["isa"] == "avx512vnni" {
        assert_eq!(layouts, BTreeSet::from(["panels", "planes"]));
    }
    bench.fails(&["measure", "--seeds", "seeds", "--activation-bits", "9"], 2);
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    let out = bench.dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_pare"));
    command
        .env("PARE_CACHE", bench.path("cache"))
        .args(["compile", "--bits", "w4a8", "--limit", "16", "--json", "--out"]);
    assert!(command.arg(&out).output().unwrap().status.success());
    assert!(out.join("glyphs.pare").is_file());
}

#[test]
fn impossible_budgets_say_what_is_reachable() {
    let bench = Bench::new();
    let said = bench.fails(&["compile", "--max-flash", "2KiB", "--out", "out"], 1);
    assert!(said.contains("--max-flash"), "{said}");
    assert!(!bench.path("out").exists(), "a failed compilation left files behind");
    let said = bench.fails(&["compile", "--max-ram", "100", "--out", "out"], 1);
    assert!(said.contains("--max-ram"), "{said}");
    let said = bench.fails(&["compile", "--max-energy", "1mJ", "--out", "out"], 2);
    assert!(said.contains("energy"), "{said}");
    let said = bench.fails(&["compile", "--max-latency", "1000instructions", "--out", "out"], 2);
    assert!(said.contains("instructions"), "{said}");
}

#[test]
fn bad_model_files_are_named_and_leave_nothing_behind() {
    let bench = Bench::new();
    std::fs::write(bench.path("empty.tflite"), []).unwrap();
    std::fs::write(bench.path("text.tflite"), "no model at all, just text").unwrap();
    for file in ["empty.tflite", "text.tflite", "missing.onnx"] {
        let said = bench.fails(&["compile", file, "--data", "synthetic", "--out", "out"], 2);
        assert!(said.contains(file), "{said}");
        assert!(!bench.path("out").exists());
    }
    let onnx = std::fs::read(golden("relu.onnx")).unwrap();
    let at = onnx.windows(4).position(|w| w == b"Relu").unwrap();
    let mut unknown = onnx.clone();
    unknown[at..at + 4].copy_from_slice(b"Ralu");
    std::fs::write(bench.path("unknown.onnx"), unknown).unwrap();
    let said = bench.fails(&["compile", "unknown.onnx", "--data", "synthetic", "--out", "out"], 3);
    assert!(said.contains("Ralu") && said.contains("unknown.onnx"), "{said}");
    let checked = bench.pare(&["import", "unknown.onnx", "--check"]);
    assert_eq!(checked.status.code(), Some(3));
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let bench = Bench::new();
    let text = "graph bad\ninput %x: [1, 32, 32, 1]\nconst %w: [1, 1, 1, 1] = [NaN]\n\
                %y: [1, 32, 32, 1] = conv2d(%x, %w)\noutput %y\n";
    std::fs::create_dir(bench.path("bad")).unwrap();
    std::fs::write(bench.path("bad/graph.ir"), text).unwrap();
    std::fs::write(bench.path("bad/weights.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let said = bench.fails(&["compile", "bad", "--data", "synthetic"], 2);
    assert!(said.contains("%w") || said.contains("`w`"), "{said}");
}

#[test]
fn data_that_is_missing_or_does_not_fit_is_named() {
    let bench = Bench::new();
    let said = bench.fails(&["compile", "--data", "cifar10:nowhere"], 2);
    assert!(said.contains("nowhere"), "{said}");
    let model = golden("conv.onnx");
    let said = bench.fails(&["compile", model.to_str().unwrap(), "--data", "synthetic"], 2);
    assert!(said.contains("synthetic"), "{said}");
    let said = bench.fails(&["compile", model.to_str().unwrap()], 2);
    assert!(said.contains("--data"), "{said}");
}

#[test]
fn damaged_and_foreign_blobs_are_refused() {
    let bench = Bench::new();
    let blob = bench.blob();
    let bytes = std::fs::read(&blob).unwrap();
    let with = |name: &str, bytes: &[u8]| {
        std::fs::write(bench.path(name), bytes).unwrap();
        bench.fails(&["bench", name, "--runs", "1"], 2)
    };
    let mut foreign = bytes.clone();
    foreign[6] = 9;
    assert!(with("foreign.pare", &foreign).contains("layout 9"));
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(with("damaged.pare", &damaged).contains("checksum"));
    assert!(with("cut.pare", &bytes[..bytes.len() / 2]).contains("bytes"));
    assert!(with("empty.pare", &[]).contains("PARE"));
    let mut newer = bytes.clone();
    newer[4] = 2;
    let sum = crc32(&newer[16..]).to_le_bytes();
    newer[12..16].copy_from_slice(&sum);
    assert!(with("newer.pare", &newer).contains("version 2"));
}

#[test]
fn one_width_can_be_had_for_all_layers() {
    let bench = Bench::new();
    let compile = |more: &[&str]| {
        let args = ["compile", "--bits", "w2a8", "--limit", "16", "--out", "out"];
        bench.json(&[&args[..], more].concat())
    };
    assert!(compile(&["--all-layers"])["blob_bytes"].as_u64() < compile(&[])["blob_bytes"].as_u64());
    bench.fails(&["compile", "--all-layers"], 2);
    bench.fails(&["compile", "--bits", "w2a8", "--search", "exact"], 2);
}

#[test]
fn passes_can_be_left_out() {
    let bench = Bench::new();
    // Every second channel of 32 is dead.
    let joined = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let halves = joined(&(0..32).map(|c| (c + 1) % 2 * (c + 1)).collect::<Vec<_>>());
    let last = joined(&(0..320).map(|i| i % 11).collect::<Vec<_>>());
    let text = format!(
        "graph dead\ninput %x: [1, 32, 32, 1]\nconst %w: [32, 1, 1, 1] = [{halves}]\n\
         %c: [1, 32, 32, 32] = conv2d(%x, %w) clamp=[0.0, inf]\n\
         %p: [1, 1, 1, 32] = avg_pool(%c) kernel=[32, 32]\n%f: [1, 32] = reshape(%p)\nconst %v: [10, 32] = [{last}]\n\
         %y: [1, 10] = fully_connected(%f, %v)\noutput %y\n"
    );
    std::fs::create_dir(bench.path("dead")).unwrap();
    std::fs::write(bench.path("dead/graph.ir"), text).unwrap();
    std::fs::write(bench.path("dead/weights.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let compile = |without: &[&str]| {
        let args = ["compile", "dead", "--data", "synthetic", "--bits", "w8a8", "--limit", "64", "--out", "out"];
        bench.json(&[&args[..], without].concat())
    };
    let (less, all) = (compile(&[]), compile(&["--without", "remove-channels", "--without", "share"]));
    assert_eq!(less["accuracy_float"], all["accuracy_float"]);
    assert_eq!(less["passes"][0]["channels"], 16);
    assert_eq!(less["passes"][0]["macs"], all["macs"].as_u64().unwrap() - less["macs"].as_u64().unwrap());
    assert!(less["blob_bytes"].as_u64() < all["blob_bytes"].as_u64());
    let said = bench.fails(&["compile", "--without", "magic"], 2);
    assert!(said.contains("remove-channels"), "{said}");
    let said = bench.fails(&["eval", "out/dead.pare", "--without", "share"], 2);
    assert!(said.contains("--without"), "{said}");
    let said = bench.fails(&["compile", "dead", "--data", "synthetic", "--class-only"], 2);
    assert!(said.contains("softmax"), "{said}");
}

#[test]
fn a_classifier_may_do_without_its_softmax() {
    let bench = Bench::new();
    let compile = |class_only: &[&str]| {
        let args = ["compile", "--bits", "w8a8", "--limit", "256", "--out", "out"];
        bench.json(&[&args[..], class_only].concat())
    };
    let layers = || bench.json(&["inspect", "out/glyphs.pare"])["layers"].as_array().unwrap().len();
    let probabilities = compile(&[]);
    let with_softmax = layers();
    let logits = compile(&["--class-only"]);
    assert_eq!(layers(), with_softmax - 1);
    assert_eq!(logits["accuracy_float"], probabilities["accuracy_float"]);
    // Logits keep apart what 8 bits of probability may not: a tie may change.
    let [a, b] = [&probabilities, &logits].map(|json| json["accuracy"].as_f64().unwrap());
    assert!((a - b).abs() <= 1.0 / 256.0, "{a} and {b}");
    let said = bench.fails(&["compile", "--class-only", "--metric", "mse"], 2);
    assert!(said.contains("mse"), "{said}");
}

#[test]
fn usage_errors_exit_with_two() {
    let bench = Bench::new();
    for args in [
        &["compile", "--bits", "w9a8"][..],
        &["compile", "--max-flash", "lots"],
        &["frobnicate"],
        &["bench"],
        &["compile", "--limit", "0"],
    ] {
        bench.fails(args, 2);
    }
    bench.fails(&["compile", "--target", "toaster"], 2);
    bench.fails(&["search", "--search", "magic"], 2);
}

#[test]
fn an_emulated_microcontroller_is_a_target_like_any_other() {
    let bench = Bench::new();
    let blob = bench.blob();
    let first = bench.pare(&["bench", &blob, "--target", "qemu:cortex-m4", "--json"]);
    let said = String::from_utf8_lossy(&first.stderr);
    if !first.status.success() && said.contains("targets/setup") && std::env::var_os("PARE_EXPECT_BOARDS").is_none() {
        eprintln!("skipped: {said}");
        return;
    }
    assert!(first.status.success(), "{said}");
    let counted: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!(counted["unit"], "instructions");
    assert_eq!(counted["median"], counted["min"], "every run takes the same instructions");
    assert!((256..8192).contains(&counted["stack_bytes"].as_u64().unwrap()), "{counted}");
    let again = bench.json(&["bench", &blob, "--target", "cortex-m4"]);
    assert_eq!(again["median"], counted["median"]);

    let verified = bench.json(&["verify", &blob, "--limit", "4", "--backends", "reference,qemu:cortex-m4"]);
    assert_eq!((&verified["bit_exact"], &verified["inputs"]), (&Value::from(true), &Value::from(4)));

    // A board's cycles and time are estimates and say so.
    let out = bench.path("board");
    let args =
        ["compile", "--bits", "w4a8", "--target", "nucleo-l4r5zi", "--limit", "4", "--out", out.to_str().unwrap()];
    let compiled = bench.json(&args);
    let [latency, predicted] = ["latency", "latency_predicted"].map(|key| compiled[key]["value"].as_f64().unwrap());
    assert!((predicted / latency - 1.0).abs() < 0.05, "{predicted} cycles predicted, {latency} told");
    assert_eq!(compiled["latency"]["unit"], "cycles");
    let estimate = &compiled["latency_estimate"];
    assert!(estimate["unit"] == "ns" && estimate["how"].as_str().unwrap().contains("estimate"), "{estimate}");
    let too_soon = bench.fails(&[&args[..], &["--max-latency", "1us"]].concat(), 1);
    assert!(too_soon.contains("--max-latency"), "{too_soon}");
}

#[test]
fn prune_writes_a_smaller_model_within_its_budget() {
    let bench = Bench::new();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/glyphs");
    let (model, out) = (model.to_str().unwrap(), bench.path("pruned"));
    let out = out.to_str().unwrap();
    let args = ["prune", model, "--multiple", "8", "--episodes", "6", "--method", "random", "--out", out];
    let pruned = bench.json(&[&args[..], &["--keep", "0.7macs"]].concat());
    keys(&pruned, &["metric", "dense", "chosen", "test", "groups", "full_widths", "methods", "wall_s"]);
    let share = pruned["chosen"]["share"].as_f64().unwrap();
    assert!((0.3..=0.7).contains(&share), "{share}");
    let scored = bench.json(&["eval", out]);
    assert!((scored["value"].as_f64().unwrap() - pruned["test"].as_f64().unwrap()).abs() < 1e-9, "{scored}");
    // What was scored once is remembered, and the same comes out.
    let again = bench.json(&[&args[..], &["--keep", "0.7macs"]].concat());
    assert_eq!((&again["chosen"], &again["test"]), (&pruned["chosen"], &pruned["test"]));

    let said = bench.fails(&[&args[..], &["--keep", "0.001macs"]].concat(), 1);
    assert!(said.contains("narrowest"), "{said}");
    assert!(bench.fails(&[&args[..], &["--keep", "half"]].concat(), 2).contains("0.5macs"));
    assert!(bench.fails(&args, 2).contains("--keep"), "an aim must be given");
}

#[test]
fn channels_weights_and_codes_go_in_one_command() {
    let bench = Bench::new();
    let line = "compile --prune 0.7macs --episodes 2 --bits w4a8 --finetune 1 --limit 100 --out out";
    let words: Vec<&str> = line.split(' ').collect();
    let made = bench.json(&words);
    let stages = made["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert!(names[1].starts_with("pruned, widths by "), "{names:?}");
    assert_eq!([names[0], names[2], names[3], names[4]], ["as given", "weights trained", "quantised", "codes trained"]);
    let figure = |stage: usize, name: &str| stages[stage][name].as_f64().unwrap();
    assert!(figure(1, "macs") <= 0.7 * figure(0, "macs"));
    assert!(figure(3, "bytes") < 0.3 * figure(2, "bytes"));
    assert!(figure(2, "accuracy") >= figure(1, "accuracy"), "training keeps the better: {stages:?}");
    assert!(figure(4, "accuracy") > figure(0, "accuracy") - 0.08, "{stages:?}");
    // Nothing is left to do but to write the same once more.
    assert_eq!(bench.json(&words)["digest"], made["digest"]);
    assert!(bench.fails(&["compile", "--search", "amc"], 2).contains("--prune"));
}

#[test]
fn an_accelerator_is_a_target_and_its_times_are_called_a_model() {
    let bench = Bench::new();
    let compile = |bits: &str| bench.json(&["compile", "--target", "bismo-edge", "--bits", bits, "--limit", "50"]);
    let [eight, four] = ["w8a8", "w4a4"].map(compile);
    assert!(eight["latency_estimate"]["how"].as_str().unwrap().contains("nothing was measured"), "{eight}");
    let cycles = |made: &Value| made["latency"]["value"].as_f64().unwrap();
    assert!(cycles(&four) < 0.7 * cycles(&eight), "fewer bits, fewer passes");
    let said = bench.fails(&["bench", eight["files"]["blob"].as_str().unwrap(), "--target", "qemu:bismo-edge"], 2);
    assert!(said.contains("no emulator"), "{said}");
}

#[test]
fn an_agent_and_its_rivals_stay_within_the_budget() {
    let bench = Bench::new();
    let line = "search --search haq --evaluations 12 --max-flash 24000B --pin-edges";
    let words: Vec<&str> = line.split(' ').collect();
    let found = bench.json(&words);
    let beside = found["beside"].as_array().unwrap();
    let names: Vec<&str> = beside.iter().map(|point| point["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["exact", "evolution", "random", "manual"]);
    for point in beside.iter().chain([&found["chosen"]]) {
        assert!(point["blob_bytes"].as_f64().unwrap() <= 24000.0, "{point}");
        let layers = point["policy"].as_object().unwrap();
        assert_eq!(layers.values().filter(|layer| layer["weights"] == "w8").count().min(2), 2, "{point}");
    }
    assert_eq!(found["tried"].as_array().unwrap().len(), found["evaluations"].as_u64().unwrap() as usize);
    let alone = bench.json(&[&words[..], &["--alone"]].concat());
    assert_eq!((&alone["chosen"], alone["beside"].as_array().unwrap().len()), (&found["chosen"], 0));

    let made = bench.json(&[&["compile"], &words[1..], &["--limit", "50"]].concat());
    let report = std::fs::read_to_string(bench.path(made["files"]["report_json"].as_str().unwrap())).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let methods = report["methods"].as_array().unwrap();
    let tried: Vec<(&str, usize)> =
        methods.iter().map(|m| (m["name"].as_str().unwrap(), m["tried"].as_array().unwrap().len())).collect();
    assert_eq!(tried, [("haq", 12), ("exact", 0), ("evolution", 12), ("random", 12), ("manual", 0)]);
    let page = std::fs::read_to_string(bench.path(made["files"]["report"].as_str().unwrap())).unwrap();
    assert!(page.contains("Ways to search") && page.contains("policies tried"));
}

#[test]
fn a_search_chooses_among_the_formats_that_are_named() {
    let bench = Bench::new();
    let line = "search --search random --evaluations 8 --max-drop 90 --pin-edges --weight-formats k2,k4";
    let found = bench.json(&line.split(' ').collect::<Vec<_>>());
    let layers = found["chosen"]["policy"].as_object().unwrap();
    let formats: Vec<&str> = layers.values().filter_map(|layer| layer["weights"].as_str()).collect();
    assert!(formats.iter().all(|format| ["k2", "k4", "w8"].contains(format)), "{formats:?}");
    assert_eq!(formats.iter().filter(|&&format| format == "w8").count(), 2, "{formats:?}");
    let said = bench.fails(&["search", "--weight-formats", "w9"], 2);
    assert!(said.contains("w9"), "{said}");
}

#[test]
fn quantisers_are_compared_and_a_second_run_computes_nothing() {
    let bench = Bench::new();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/glyphs");
    let words = ["bench-quantizers", models, "--data", "synthetic", "--out", "q", "--quantizers", "min-max,rounding"];
    let words = [&words[..], &["--backends", "per-channel,power-of-two"]].concat();
    let found = bench.json(&words);
    let rows = found["rows"].as_array().unwrap();
    let names: Vec<[&str; 2]> =
        rows.iter().map(|row| ["backend", "quantizer"].map(|of| row[of].as_str().unwrap())).collect();
    let [free, shifts] = ["per-channel", "power-of-two"];
    assert_eq!(names, [[free, "min-max"], [free, "rounding"], [shifts, "min-max"], [shifts, "rounding"]]);
    let of = |row: usize, what: &str| rows[row][what].as_f64().unwrap();
    assert!(of(1, "deployed") >= of(0, "deployed") && (of(1, "academic") - of(1, "deployed")).abs() < 0.05, "{found}");
    let page = std::fs::read_to_string(bench.path("q/quantizers.html")).unwrap();
    assert!(page.contains("power-of-two") && page.contains("mean gap"));
    // Times of a row would differ if it had been made anew.
    assert_eq!(bench.json(&words), found);
    let said = bench.fails(&[&words[..], &["--quantizers", "best"]].concat(), 2);
    assert!(said.contains("k-means"), "{said}");
    let said = bench.fails(&["bench-quantizers", models, models, "--data", "synthetic", "--out", "q"], 2);
    assert!(said.contains("once for each"), "{said}");
}

#[test]
fn energy_is_bounded_where_the_target_says_what_it_costs() {
    let bench = Bench::new();
    let words = ["compile", "--target", "bit-fusion", "--limit", "50", "--out", "e"];
    let line = |made: &Value| -> String {
        let report = std::fs::read_to_string(bench.path(made["files"]["report_json"].as_str().unwrap())).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        report["budget"][0]["reached"].as_str().unwrap().to_owned()
    };
    let wide = bench.json(&[&words[..], &["--bits", "w8a8", "--max-energy", "1mJ"]].concat());
    assert!(line(&wide).contains('J'), "{}", line(&wide));
    let said = bench.fails(&[&words[..], &["--bits", "w8a8", "--max-energy", "1nJ"]].concat(), 1);
    assert!(said.contains("--max-energy"), "{said}");
    let said = bench.fails(&["compile", "--bits", "w8a8", "--limit", "50", "--max-energy", "1mJ"], 2);
    assert!(said.contains("no energy figures"), "{said}");
}
