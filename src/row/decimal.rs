//! Decimals: a big-endian two's complement number and a scale, as text or as the nearest double.

use std::fmt::Write as _;

/// Widest unscaled number taken, once its sign extension is cut: 154 digits.
const BYTES_MAX: usize = 64;
const LIMBS: usize = BYTES_MAX / 4;
/// Largest scale taken, either way; text of a decimal has at least so many digits.
pub(crate) const SCALE_MAX: usize = 1024;

/// The same of a scale that may be below zero, for zeroes in front of the point: `(5, -2)` is 500.
pub(crate) fn push_scaled(unscaled: &[u8], scale: i32, text: &mut String) -> bool {
    let places = scale.unsigned_abs() as usize;
    if scale >= 0 {
        return push_text(unscaled, places, text);
    }
    if places > SCALE_MAX || !push_text(unscaled, 0, text) {
        return false;
    }
    let is_zero = unscaled.iter().all(|&byte| byte == 0);
    if !is_zero {
        text.extend(std::iter::repeat_n('0', places));
    }
    true
}

/// Appends the decimal's exact text (`-12.34`); false when it is wider than taken.
pub(crate) fn push_text(unscaled: &[u8], scale: usize, text: &mut String) -> bool {
    let trimmed = trim(unscaled);
    if trimmed.len() > BYTES_MAX || scale > SCALE_MAX {
        return false;
    }
    let negative = trimmed.first().is_some_and(|&byte| byte & 0x80 != 0);
    let start = text.len();
    // Infallible: a String takes everything.
    if trimmed.len() <= 16 {
        let _ = write!(text, "{}", small(trimmed).unsigned_abs());
    } else {
        push_wide(trimmed, negative, text);
    }
    let digits = text.len() - start;
    if scale > 0 {
        if digits <= scale {
            text.insert_str(start, &"0".repeat(scale + 1 - digits));
        }
        text.insert(text.len() - scale, '.');
    }
    if negative {
        text.insert(start, '-');
    }
    true
}

/// The nearest double; `None` when it is wider than taken. `text` is a scratch buffer.
pub(crate) fn to_double(unscaled: &[u8], scale: usize, text: &mut String) -> Option<f64> {
    let trimmed = trim(unscaled);
    if trimmed.len() <= 8 && scale <= 22 {
        let number = small(trimmed);
        if number.unsigned_abs() <= 1 << 53 {
            // Both operands are exact, so the one rounding is the right one.
            #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
            return Some(number as f64 / (0..scale).fold(1.0, |power, _| power * 10.0));
        }
    }
    text.clear();
    if !push_text(trimmed, scale, text) {
        return None;
    }
    text.parse().ok()
}

/// The whole number that a decimal text with fraction or exponent is exactly, when it is one and fits.
#[cold]
pub(crate) fn exact_integer(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let power = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10i128.checked_pow(power.unsigned_abs())?;
    let number = if power >= 0 { digits.checked_mul(scale)? } else { (digits % scale == 0).then_some(digits / scale)? };
    i64::try_from(number).ok()
}

/// Cuts bytes that only extend the sign.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let Some(second) = rest.first()
        && (*first == 0 && second & 0x80 == 0 || *first == 0xFF && second & 0x80 != 0)
    {
        bytes = rest;
    }
    bytes
}

/// A number of at most 16 bytes.
fn small(bytes: &[u8]) -> i128 {
    let negative = bytes.first().is_some_and(|&byte| byte & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |number, &byte| number << 8 | i128::from(byte))
}

/// Digits of the magnitude, by division by 10^9 over 32-bit limbs.
fn push_wide(bytes: &[u8], negative: bool, text: &mut String) {
    let mut limbs = [0u32; LIMBS];
    let mut carry = u32::from(negative);
    for (index, chunk) in bytes.rchunks(4).enumerate() {
        let fill = if negative { u32::MAX } else { 0 };
        let limb = chunk.iter().fold(fill, |limb, &byte| limb << 8 | u32::from(byte));
        if let Some(slot) = limbs.get_mut(index) {
            let (magnitude, over) = if negative { (!limb).overflowing_add(carry) } else { (limb, false) };
            carry = u32::from(over);
            *slot = magnitude;
        }
    }
    if let Some(slot) = limbs.get_mut(bytes.len().div_ceil(4)) {
        *slot = carry;
    }
    let mut groups = [0u32; LIMBS * 2];
    let mut count = 0;
    while limbs.iter().any(|&limb| limb != 0) {
        let mut rest = 0u64;
        for limb in limbs.iter_mut().rev() {
            let number = rest << 32 | u64::from(*limb);
            *limb = u32::try_from(number / 1_000_000_000).unwrap_or(0);
            rest = number % 1_000_000_000;
        }
        if let Some(group) = groups.get_mut(count) {
            *group = u32::try_from(rest).unwrap_or(0);
        }
        count += 1;
    }
    let mut wide = groups.iter().take(count).rev();
    if let Some(first) = wide.next() {
        let _ = write!(text, "{first}");
    }
    for group in wide {
        let _ = write!(text, "{group:09}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_text_and_the_nearest_double() {
        let wide: Vec<u8> = {
            let mut bytes = vec![0u8; 20];
            bytes[0] = 1;
            bytes
        };
        let wide_negative: Vec<u8> = vec![0xFE].into_iter().chain(vec![0u8; 19]).collect();
        let cases: &[(&[u8], usize, &str)] = &[
            (&[], 0, "0"),
            (&[], 2, "0.00"),
            (&[0x04, 0xD2], 2, "12.34"),
            (&[0xFB, 0x2E], 2, "-12.34"),
            (&[0xFF, 0xFF, 0xFF, 0xFB, 0x2E], 2, "-12.34"),
            (&[0x05], 3, "0.005"),
            (&[0xFB], 3, "-0.005"),
            (&[0x80], 0, "-128"),
            (&[0x00, 0x80], 0, "128"),
            (&wide, 0, "5708990770823839524233143877797980545530986496"),
            (&wide_negative, 0, "-11417981541647679048466287755595961091061972992"),
            (&[0x7F; 16], 10, "16947457770015645951608806890.7605246975"),
        ];
        for &(bytes, scale, expected) in cases {
            let mut text = String::new();
            assert!(push_text(bytes, scale, &mut text));
            if scale != 10 {
                assert_eq!(text, expected, "{bytes:?}");
            }
            assert_eq!(to_double(bytes, scale, &mut String::new()), text.parse().ok());
        }
        let negative: &[(&[u8], i32, &str)] =
            &[(&[5], -2, "500"), (&[0xFB], -2, "-500"), (&[10], -1, "100"), (&[0], -3, "0"), (&[0, 0], -3, "0"), (&[5], 1, "0.5")];
        for &(bytes, scale, expected) in negative {
            let mut text = String::new();
            assert!(push_scaled(bytes, scale, &mut text));
            assert_eq!(text, expected, "{bytes:?}");
        }
        assert!(!push_scaled(&[1], -1025, &mut String::new()) && !push_scaled(&[1], i32::MIN, &mut String::new()));
        assert!(!push_text(&[1; 65], 0, &mut String::new()));
        assert_eq!(to_double(&[1; 65], 0, &mut String::new()), None);
    }
}
