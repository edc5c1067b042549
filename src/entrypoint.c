// R calls R_init_faucet on loading the library. Forwarding it to Rust from C also keeps the linker from
// dropping the static library, which nothing else here refers to.

void R_init_faucet_extendr(void *dll);

void R_init_faucet(void *dll) {
    R_init_faucet_extendr(dll);
}
