//! Names of policies and meters.

use std::ops::Deref;

use crate::memory::allocated_bytes;

/// The name of a policy or a meter. Names of up to 14 bytes lie in the struct, so that decisions follow no pointer to
/// them.
#[derive(Clone, PartialEq, Eq)]
pub struct ShortName(Form);

const INLINE_MAX: usize = 14;

/// Sixteen bytes. Behind a shorter name the buffer is zero, so equal names have equal forms.
#[derive(Clone, PartialEq, Eq)]
enum Form {
    Inline {
        len: u8,
        bytes: [u8; INLINE_MAX],
    },
    /// Boxed twice, because a pointer with a length takes sixteen bytes by itself.
    Long(Box<Box<[u8]>>),
}

impl ShortName {
    /// The empty name.
    pub fn new() -> Self {
        Self(Form::Inline { len: 0, bytes: [0; INLINE_MAX] })
    }

    /// Copies a name.
    pub fn from_slice(name: &[u8]) -> Self {
        let mut bytes = [0; INLINE_MAX];
        match (u8::try_from(name.len()), bytes.get_mut(..name.len())) {
            (Ok(len), Some(place)) => {
                place.copy_from_slice(name);
                Self(Form::Inline { len, bytes })
            }
            _ => Self(Form::Long(Box::new(name.into()))),
        }
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.0 {
            Form::Inline { .. } => 0,
            Form::Long(name) => allocated_bytes(size_of::<Box<[u8]>>()) + allocated_bytes(name.len()),
        }
    }
}

impl Default for ShortName {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for ShortName {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Form::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Form::Long(name) => name,
        }
    }
}

impl AsRef<[u8]> for ShortName {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<&[u8]> for ShortName {
    fn from(name: &[u8]) -> Self {
        Self::from_slice(name)
    }
}

impl std::fmt::Debug for ShortName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:?}", String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_kept_as_they_are() {
        for len in 0..=300 {
            let name: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let short = ShortName::from_slice(&name);
            assert_eq!(*short, *name);
            assert_eq!(short, short.clone());
            assert_eq!(short.memory_bytes() > 0, len > INLINE_MAX);
            assert_ne!(short, ShortName::from_slice(&[&*name, b"x"].concat()));
            // A zero at the end is part of a name.
            assert_ne!(short, ShortName::from_slice(&[&*name, b"\0"].concat()));
        }
    }

    #[test]
    fn a_name_takes_sixteen_bytes() {
        assert_eq!(size_of::<ShortName>(), 16);
    }
}
