//! Lets the program find a prebuilt RocksDB (`ROCKSDB_LIB_DIR`, see `deploy/prepare.sh`) at run time without
//! `LD_LIBRARY_PATH`, and records which RocksDB it was linked with, for `taglog-server --version`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=ROCKSDB_LIB_DIR");
    let rocksdb = match std::env::var("ROCKSDB_LIB_DIR") {
        Ok(directory) => {
            println!("cargo:rustc-link-arg=-Wl,-rpath,{directory}");
            format!("prebuilt library in {directory}")
        }
        Err(_) => "built from source, linked statically".to_owned(),
    };
    println!("cargo:rustc-env=TAGLOG_ROCKSDB={rocksdb}");
}
