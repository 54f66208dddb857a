//! Values as PostgreSQL writes them on the wire, where the driver has no type of ours.

use std::error::Error;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::ids::RequestId;
use crate::money::Money;

type Failure = Box<dyn Error + Sync + Send>;

/// A `uuid`: its sixteen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(pub(super) RequestId);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Failure> {
        out.extend_from_slice(self.0.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Id, Failure> {
        Ok(Id(RequestId(uuid::Uuid::from_slice(bytes)?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::UUID
    }
}

/// A whole number of pico-dollars as `numeric`: groups of four decimal digits, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picos(pub(super) Money);

const GROUP: u128 = 10_000;
const NEGATIVE: u16 = 0x4000;

impl ToSql for Picos {
    fn to_sql(&self, _: &Type, out: &mut bytes::BytesMut) -> Result<IsNull, Failure> {
        let mut rest = self.0.picos().unsigned_abs();
        let mut groups = Vec::with_capacity(10);
        while rest > 0 {
            groups.push(u16::try_from(rest % GROUP)?);
            rest /= GROUP;
        }
        let count = u16::try_from(groups.len())?;
        let sign = if self.0.is_negative() { NEGATIVE } else { 0 };
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&count.saturating_sub(1).to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&0_u16.to_be_bytes());
        for group in groups.iter().rev() {
            out.extend_from_slice(&group.to_be_bytes());
        }
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Picos {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Picos, Failure> {
        let mut words = bytes
            .chunks_exact(2)
            .map(|pair| pair.try_into().map_or(0, u16::from_be_bytes));
        let mut header = || words.next().ok_or("a numeric is cut");
        let (count, weight, sign, _scale) = (header()?, header()?, header()?, header()?);
        if sign != 0 && sign != NEGATIVE {
            return Err("a numeric is no number".into());
        }
        let mut picos: u128 = 0;
        // PostgreSQL leaves out groups of zeros at the end: the weight says how many stand before the point.
        let whole = if count == 0 { 0 } else { u32::from(weight) + 1 };
        for _ in 0..whole {
            picos = picos
                .checked_mul(GROUP)
                .and_then(|picos| picos.checked_add(words.next().unwrap_or(0).into()))
                .ok_or("a numeric is out of range")?;
        }
        if words.any(|group| group != 0) {
            return Err("money is no whole number of pico-dollars".into());
        }
        let picos = i128::try_from(picos)?;
        let signed = if sign == NEGATIVE { -picos } else { picos };
        Ok(Picos(Money::from_picos(signed)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }
}

/// A text without zero bytes, which PostgreSQL's texts cannot hold.
pub(super) fn text(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_amount_survives_the_wire(picos in -Money::MAX.picos() * 1000..Money::MAX.picos() * 1000) {
            let money = Picos(Money::from_picos(picos));
            let mut bytes = bytes::BytesMut::new();
            money.to_sql(&Type::NUMERIC, &mut bytes).unwrap();
            prop_assert_eq!(Picos::from_sql(&Type::NUMERIC, &bytes).unwrap(), money);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Picos::from_sql(&Type::NUMERIC, &bytes);
        }
    }
}
