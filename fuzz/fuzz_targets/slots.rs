#![no_main]
libfuzzer_sys::fuzz_target!(init: gw_fuzz::seeds::write_if_asked("slots"), |data: &[u8]| gw_fuzz::slots(data));
