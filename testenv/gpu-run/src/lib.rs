//! What a program in a container sees of GPUs, as one document: written by `gpu-probe`, read by `gpu-run`.

pub mod probe_output;
