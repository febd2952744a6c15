//! [`TrailRow`]: a line of the trail of audit, as a page shows it.

use serde_json::Value;

use super::line;

/// The longest text in a cell, in characters.
const MAX_TEXT: usize = 300;

/// A line of the trail.
pub(super) enum TrailRow {
    /// One that was understood.
    Line {
        time: String,
        action: String,
        outcome: String,
        user: String,
        address: String,
        package: String,
        details: String,
    },
    /// One that was not, as it is.
    Other(String),
}

impl TrailRow {
    pub(super) fn of(text: &str) -> Self {
        match serde_json::from_str::<Value>(text) {
            Ok(value) if value.is_object() => Self::of_object(&value),
            _ => Self::Other(line(text, MAX_TEXT)),
        }
    }

    fn of_object(value: &Value) -> Self {
        let text = |key: &str| match &value[key] {
            Value::String(text) => line(text, MAX_TEXT),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let joined = |keys: &[&str], between: &str| {
            let texts = keys.iter().map(|key| text(key));
            let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
            texts.join(between)
        };
        Self::Line {
            time: text("time"),
            action: text("action"),
            outcome: text("outcome"),
            user: text("user"),
            address: text("address"),
            package: joined(&["package", "version"], " "),
            details: joined(
                &[
                    "status",
                    "method",
                    "path",
                    "reason",
                    "requests",
                    "lines_lost",
                ],
                " ",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_the_file_is_shown_as_text() {
        let TrailRow::Other(shown) = TrailRow::of("{\"half\u{202e}") else {
            panic!("it is no object");
        };
        assert_eq!(shown, "{\"half");
        assert!(matches!(TrailRow::of("7"), TrailRow::Other(_)));
        let text = r#"{"time":"t","action":7,"user":null,"package":"@s/a","version":"1.0.0","status":403,"reason":["x"]}"#;
        let TrailRow::Line {
            action,
            user,
            package,
            details,
            ..
        } = TrailRow::of(text)
        else {
            panic!("it is an object");
        };
        assert_eq!(
            [&*action, &*user, &*package, &*details],
            ["7", "", "@s/a 1.0.0", "403"]
        );
    }
}
