//! When something is due: five fields of minutes, hours, days, months and weekdays, in UTC.
//!
//! `*/5 * * * *` is every fifth minute. A field is `*`, a number, a range `1-5`, either with a step
//! `/n`, or several of them with commas. Weekdays count from Sunday, 0 or 7. As cron has it, where
//! both days are restricted one of them is enough.

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
}

const MINUTE_US: i64 = 60_000_000;
/// Every schedule that is ever due is so within eight years: the 29th of February.
const DAYS_MAX: i64 = 366 * 8 + 1;

impl Schedule {
    /// Reads the five fields.
    ///
    /// # Errors
    /// What is wrong, and in which field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[minutes, hours, days, months, weekdays] = &fields[..] else {
            return Err(format!("five fields are wanted, minute hour day month weekday, found {}", fields.len()));
        };
        let mut schedule = Self {
            minutes: field("minute", minutes, 0, 59)?,
            hours: field("hour", hours, 0, 23)?,
            days: field("day", days, 1, 31)?,
            months: field("month", months, 1, 12)?,
            weekdays: field("weekday", weekdays, 0, 7)?,
            any_day: days == "*" || weekdays == "*",
        };
        if schedule.weekdays >> 7 & 1 == 1 {
            schedule.weekdays |= 1;
        }
        match schedule.next_us(0) {
            Some(_) => Ok(schedule),
            None => Err("that is never due".to_owned()),
        }
    }

    /// The first time after `now_us` at which it is due, microseconds since the Unix epoch.
    pub fn next_us(&self, now_us: i64) -> Option<i64> {
        let begin = now_us.div_euclid(MINUTE_US) + 1;
        let (first_day, mut minute) = (begin.div_euclid(1_440), begin.rem_euclid(1_440));
        for day in first_day..first_day + DAYS_MAX {
            if self.is_day(day) {
                let due = (minute..1_440).find(|at| self.hours >> (at / 60) & 1 == 1 && self.minutes >> (at % 60) & 1 == 1);
                if let Some(at) = due {
                    return Some((day * 1_440 + at) * MINUTE_US);
                }
            }
            minute = 0;
        }
        None
    }

    fn is_day(&self, days: i64) -> bool {
        let (_, month, day) = super::store::civil(days);
        // 1970-01-01 was a Thursday.
        let weekday = (days + 4).rem_euclid(7);
        let (on_day, on_weekday) = (self.days >> day & 1 == 1, self.weekdays >> weekday & 1 == 1);
        self.months >> month & 1 == 1 && if self.any_day { on_day && on_weekday } else { on_day || on_weekday }
    }
}

fn field(name: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    let wrong = || format!("{name} is {text:?}: *, numbers from {least} to {most}, ranges and steps are wanted");
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| (least..=most).contains(number)).ok_or_else(wrong);
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // A number with a step goes on to the end.
            None => (number(range)?, if step > 1 { most } else { number(range)? }),
        };
        if from > to {
            return Err(wrong());
        }
        bits |= (from..=to).step_by(usize::try_from(step).map_err(|_| wrong())?).fold(0, |bits, at| bits | 1 << at);
    }
    Ok(bits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn us(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
    }

    #[test]
    fn the_next_time_is_the_first_one_behind() {
        for (schedule, now, next) in [
            ("*/5 * * * *", "2026-03-01T10:05:00Z", "2026-03-01T10:10:00Z"),
            ("*/5 * * * *", "2026-03-01T10:09:59.999999Z", "2026-03-01T10:10:00Z"),
            ("0 0 * * *", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"),
            ("30 4 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T04:30:00Z"),
            ("0 12 * * 1-5", "2026-03-06T12:00:00Z", "2026-03-09T12:00:00Z"),
            ("0 0 13 * 5", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z"),
            ("0 0 * * 7", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00Z"),
            ("10/20,1 6 * * *", "2026-03-01T06:10:00Z", "2026-03-01T06:30:00Z"),
        ] {
            assert_eq!(Schedule::parse(schedule).unwrap().next_us(us(now)).unwrap(), us(next), "{schedule} after {now}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        for (text, part) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "weekday"),
            ("*/0 * * * *", "minute"),
            ("5-1 * * * *", "minute"),
            ("0 0 31 2 *", "never"),
            ("x * * * *", "minute"),
        ] {
            let error = Schedule::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
