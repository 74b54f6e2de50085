//! A body under `Content-Encoding`: gzip and zstd are taken off, within the bound that holds for plain bodies.
//!
//! The bound is kept while decompressing, so a small body cannot become a large one: at most one byte more than the bound
//! is ever made, and zstd may ask for a window of [`ZSTD_WINDOW_LOG_MAX`] at most, as RFC 9659 has it for this use. Runs
//! on the I/O thread: the usual bound of 4 MiB takes some 10 ms.

use super::too_large;
use std::borrow::Cow;
use std::io::Read;
use streamgauge_api::{ApiError, Code};

/// What may stand in `Content-Encoding`.
pub(crate) const ACCEPTED: &str = "gzip, zstd";

/// 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// `body` as it was before `coding`, at most `limit` bytes.
pub(crate) fn decoded<'b>(coding: &str, body: &'b [u8], limit: usize) -> Result<Cow<'b, [u8]>, ApiError> {
    let is = |name: &str| coding.eq_ignore_ascii_case(name);
    if coding.is_empty() || is("identity") {
        return Ok(Cow::Borrowed(body));
    }
    if is("gzip") || is("x-gzip") {
        return read("gzip", flate2::read::MultiGzDecoder::new(body), limit);
    }
    if is("zstd") {
        let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(decoder)
        });
        return read("zstd", decoder.map_err(|error| broken("zstd", &error))?, limit);
    }
    let reason = format!("Content-Encoding is {coding:?}; accepted are {ACCEPTED}, or none");
    Err(ApiError::new(Code::UnsupportedMediaType, reason).hint("send the body as it is, or under Content-Encoding: gzip or zstd"))
}

fn read<'b>(name: &str, decoder: impl Read, limit: usize) -> Result<Cow<'b, [u8]>, ApiError> {
    let mut plain = Vec::new();
    let bound = (limit as u64).saturating_add(1);
    decoder.take(bound).read_to_end(&mut plain).map_err(|error| broken(name, &error))?;
    if plain.len() > limit {
        return Err(too_large(limit));
    }
    Ok(Cow::Owned(plain))
}

fn broken(name: &str, error: &std::io::Error) -> ApiError {
    ApiError::new(Code::InvalidRequest, format!("the body is not {name} as Content-Encoding says: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(plain, 19).unwrap()
    }

    #[test]
    fn gzip_and_zstd_are_taken_off_and_others_are_refused() {
        let plain = br#"{"event":"E","data":{}}"#;
        let two = [gzip(&plain[..5]), gzip(&plain[5..])].concat();
        for (coding, body) in [
            ("", plain.to_vec()),
            ("identity", plain.to_vec()),
            ("gzip", gzip(plain)),
            ("GZIP", gzip(plain)),
            ("x-gzip", gzip(plain)),
            ("gzip", two),
            ("zstd", zstd(plain)),
            ("zstd", [zstd(&plain[..5]), zstd(&plain[5..])].concat()),
        ] {
            assert_eq!(decoded(coding, &body, 100).unwrap(), &plain[..], "{coding}");
        }
        for coding in ["br", "deflate", "compress", "gzip, zstd", "gzip,gzip", "x"] {
            assert_eq!(decoded(coding, plain, 100).unwrap_err().code, Code::UnsupportedMediaType, "{coding}");
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_bound() {
        let zeros = vec![0u8; 64 << 20];
        for (coding, body) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))] {
            assert!(body.len() < 100_000, "{coding}: {}", body.len());
            assert_eq!(decoded(coding, &body, 1 << 20).unwrap_err().code, Code::PayloadTooLarge, "{coding}");
        }
        for (coding, body) in [("gzip", gzip(&zeros[..100])), ("zstd", zstd(&zeros[..100]))] {
            assert_eq!(decoded(coding, &body, 100).unwrap().len(), 100, "{coding}");
            assert_eq!(decoded(coding, &body, 99).unwrap_err().code, Code::PayloadTooLarge, "{coding}");
        }
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused_before_it_is_made() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();
        let body = encoder.finish().unwrap();
        assert_eq!(decoded("zstd", &body, 10_000).unwrap_err().code, Code::InvalidRequest);
    }

    #[test]
    fn a_body_that_is_cut_or_goes_on_is_refused() {
        let plain = vec![b'x'; 1000];
        for (coding, body) in [("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
            for wrong in [&body[..body.len() - 1], &body[..3], b"plain", &[&body[..], b"tail"].concat()] {
                assert_eq!(decoded(coding, wrong, 10_000).unwrap_err().code, Code::InvalidRequest, "{coding} {}", wrong.len());
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            if head {
                bytes.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd]);
            }
            for coding in ["gzip", "zstd"] {
                let _any_answer = decoded(coding, &bytes, 1_000).is_ok();
            }
        }
    }
}
