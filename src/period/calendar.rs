//! The proleptic Gregorian calendar on whole milliseconds, total: there is no date that it refuses.

/// A UTC day.
pub(super) const DAY_MS: i64 = 24 * 60 * 60_000;

/// Midnight of the first of a month; months past December run on into the next year.
pub(super) fn month_start_ms(year: i64, month: i64) -> i64 {
    month_day_ms(year, month, 1)
}

/// Midnight of a day of a month, or of the month's last day if it is shorter; any month number is in some year.
pub(super) fn month_day_ms(year: i64, month: i64, day: i64) -> i64 {
    let months = year.saturating_mul(12).saturating_add(month - 1);
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
    let last = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    days_of(year, month, day.min(last)).saturating_mul(DAY_MS)
}

/// Days since the epoch of a civil date. The year is taken to begin in March, so that the leap day is its last.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era.saturating_mul(DAYS_PER_ERA).saturating_add(day_of_era) - EPOCH_DAYS
}

/// The civil date (year, month, day) of a count of days since the epoch: the inverse of [`days_of`].
pub(super) fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(EPOCH_DAYS);
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 1 March of the year 0 to the epoch.
const EPOCH_DAYS: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::super::billing::tests::any_date;
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn days_and_dates_agree_with_the_calendar_library(day in any_date()) {
            let epoch = date(1970, 1, 1);
            let days = i64::from((day - epoch).get_days());
            let (year, month, of_month) = (i64::from(day.year()), i64::from(day.month()), i64::from(day.day()));
            prop_assert_eq!(days_of(year, month, of_month), days);
            prop_assert_eq!(civil_of(days), (year, month, of_month));
        }
    }
}
