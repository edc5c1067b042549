//! Writes the Rust code of a service, and its description for reflection:
//! `faucet-rpc-code DESCRIPTOR_SET OUT_DIR`, the first as `protoc --include_source_info` has it.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err("usage: faucet-rpc-code DESCRIPTOR_SET OUT_DIR".into());
    };
    let mut set = FileDescriptorSet::decode(&*fs::read(from)?)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .bytes(".faucet.v1")
        .btree_map(".faucet.v1")
        .out_dir(&to)
        .compile_fds(set.clone())?;
    // Comments are for readers of the source.
    for file in &mut set.file {
        file.source_code_info = None;
    }
    fs::write(to.join("faucet.v1.binpb"), set.encode_to_vec())?;
    Ok(())
}
