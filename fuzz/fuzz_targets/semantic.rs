#![no_main]
libfuzzer_sys::fuzz_target!(init: gw_fuzz::seeds::write_if_asked("semantic"), |data: &[u8]| gw_fuzz::semantic(data));
