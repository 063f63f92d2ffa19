//! Schedules: five fields as POSIX cron has them, with the names of months and days.

/// One field: its name, range, and names.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field {
        name: "month",
        low: 1,
        high: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field { name: "day of week", low: 0, high: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] },
];

const SHORTHANDS: [&str; 8] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@every"];

/// What is wrong with a schedule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CronProblem {
    /// No server can read it.
    Wrong(String),
    /// It runs more often than GitHub allows.
    TooOften,
    /// Gitea knows the shorthand, GitHub does not.
    GiteaOnly,
}

/// The first problem of a schedule.
pub(crate) fn check(cron: &str) -> Option<CronProblem> {
    let cron = cron.trim();
    if let Some(word) = cron.split_whitespace().next().filter(|word| word.starts_with('@')) {
        return Some(if SHORTHANDS.contains(&word) {
            CronProblem::GiteaOnly
        } else {
            CronProblem::Wrong(format!("'{word}' is no schedule"))
        });
    }
    let parts: Vec<&str> = cron.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Some(CronProblem::Wrong(format!(
            "a schedule has five fields (minute, hour, day of month, month, day of week), found {}",
            parts.len()
        )));
    }
    for (field, part) in FIELDS.iter().zip(&parts) {
        if let Err(why) = check_field(field, part) {
            return Some(CronProblem::Wrong(format!("{why} in the field of the {}", field.name)));
        }
    }
    is_too_often(parts[0]).then_some(CronProblem::TooOften)
}

fn check_field(field: &Field, text: &str) -> Result<(), String> {
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        if let Some(step) = step
            && !step.parse::<u32>().is_ok_and(|step| step > 0)
        {
            return Err(format!("'{step}' is no step"));
        }
        if range == "*" || range == "?" {
            continue;
        }
        match range.split_once('-') {
            Some((low, high)) => {
                let (low, high) = (value(field, low)?, value(field, high)?);
                if low > high {
                    return Err(format!("the range '{range}' runs backwards"));
                }
            }
            None => {
                value(field, range)?;
            }
        }
    }
    Ok(())
}

fn value(field: &Field, text: &str) -> Result<u32, String> {
    if let Some(at) = field.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(field.low + u32::try_from(at).unwrap_or(0));
    }
    let number: u32 = text.parse().map_err(|_| format!("'{text}' is no value"))?;
    if number < field.low || number > field.high {
        return Err(format!("{number} is not within {} to {}", field.low, field.high));
    }
    Ok(number)
}

/// GitHub starts schedules at most every five minutes.
fn is_too_often(minutes: &str) -> bool {
    let mut due = [false; 60];
    for item in minutes.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let step: usize = step.parse().unwrap_or(1).max(1);
        let (low, high) = match range.split_once('-') {
            Some((low, high)) => (low.parse().unwrap_or(0), high.parse().unwrap_or(59)),
            None if range == "*" || range == "?" => (0, 59),
            None => {
                let low: usize = range.parse().unwrap_or(0);
                (low, if item.contains('/') { 59 } else { low })
            }
        };
        for minute in (low..=high.min(59)).step_by(step) {
            due[minute] = true;
        }
    }
    let at: Vec<usize> = (0..60).filter(|minute| due[*minute]).collect();
    at.windows(2).any(|pair| pair[1] - pair[0] < 5) || at.len() > 1 && at[0] + 60 - at[at.len() - 1] < 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_schedules_pass() {
        for cron in ["0 0 * * *", "*/15 2-6 1,15 JAN-MAR mon", "5/10 * * * 7", "30 5 ? * 1-5", " 0  3 * * 0 "]
        {
            assert_eq!(check(cron), None, "{cron}");
        }
    }

    #[test]
    fn wrong_schedules_say_which_field() {
        let wrong = |cron: &str| match check(cron) {
            Some(CronProblem::Wrong(why)) => why,
            other => panic!("{cron}: {other:?}"),
        };
        assert!(wrong("0 0 * *").contains("found 4"));
        assert_eq!(wrong("60 * * * *"), "60 is not within 0 to 59 in the field of the minute");
        assert_eq!(wrong("0 24 * * *"), "24 is not within 0 to 23 in the field of the hour");
        assert_eq!(wrong("0 0 0 * *"), "0 is not within 1 to 31 in the field of the day of month");
        assert_eq!(wrong("0 0 * FOO *"), "'FOO' is no value in the field of the month");
        assert_eq!(wrong("0 0 * * 5-1"), "the range '5-1' runs backwards in the field of the day of week");
        assert_eq!(wrong("*/0 * * * *"), "'0' is no step in the field of the minute");
        assert_eq!(wrong("@never"), "'@never' is no schedule");
    }

    #[test]
    fn some_schedules_are_not_for_every_server() {
        assert_eq!(check("* * * * *"), Some(CronProblem::TooOften));
        assert_eq!(check("*/4 * * * *"), Some(CronProblem::TooOften));
        assert_eq!(check("0,58 * * * *"), Some(CronProblem::TooOften));
        assert_eq!(check("@daily"), Some(CronProblem::GiteaOnly));
    }
}
