#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| banish::firewall::garbled::read(data));
