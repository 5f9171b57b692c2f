fn main() {
    println!("cargo:rerun-if-changed=src/server/variadic.c");
    cc::Build::new().file("src/server/variadic.c").warnings(true).compile("gw_fuzz_server");
}
