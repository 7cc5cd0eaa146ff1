//! What every object carries besides its programs.

/// Licence of the kernel programs: helpers for GPL programs are used.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Says from which sources and by which toolchain this object was made.
///
/// `cargo xtask ebpf` sets both; the build of the user side compares the digest.
#[macro_export]
macro_rules! provenance {
    () => {
        const PROVENANCE_TEXT: &str = concat!(
            "murphy-sources:",
            env!("MURPHY_SOURCES"),
            "\nmurphy-toolchain:",
            env!("MURPHY_TOOLCHAIN"),
            "\n"
        );
        #[used]
        #[unsafe(link_section = ".murphy")]
        static PROVENANCE: [u8; PROVENANCE_TEXT.len()] = {
            let mut bytes = [0; PROVENANCE_TEXT.len()];
            bytes.copy_from_slice(PROVENANCE_TEXT.as_bytes());
            bytes
        };

        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }
    };
}
