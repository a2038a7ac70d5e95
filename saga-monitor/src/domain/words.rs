//! Closed lists of words, the same in the code, in answers and in tables.

/// A text that is none of a list's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no {1}")]
pub struct UnknownWord(pub(crate) String, pub(crate) &'static str);

macro_rules! words {
    // A `tt`, as a literal that was matched as one can't be seen by every derive.
    ($(#[$doc:meta])* $name:ident, $kind:literal { $($(#[$word_doc:meta])* $word:ident => $text:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
            utoipa::ToSchema,
        )]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $text)] $word),+
        }

        impl $name {
            /// Every one there is.
            pub const ALL: &'static [Self] = &[$(Self::$word),+];

            /// As it is written in answers and tables.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.iter().copied().find(|word| word.as_str() == text);
                known.ok_or_else(|| $crate::domain::UnknownWord(text.to_owned(), $kind))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a saga stands (docs/contract.md §7).
    State, "state of a saga" {
        /// Something is owed, and nothing was cancelled.
        InProgress => "IN_PROGRESS",
        /// Confirmed, issued.
        Completed => "COMPLETED",
        /// Cancelled, and not everything is undone or answered yet.
        Compensating => "COMPENSATING",
        /// Cancelled, and everything that was done is undone; also when there was nothing.
        Compensated => "COMPENSATED",
        /// Ended otherwise: a rejected coupon request; what can't be read.
        Failed => "FAILED",
    }
}

impl State {
    /// Whether something is still to come.
    pub const fn is_open(self) -> bool {
        match self {
            Self::InProgress | Self::Compensating => true,
            Self::Completed | Self::Compensated | Self::Failed => false,
        }
    }
}

words! {
    /// What became of a step.
    StepStatus, "status of a step" {
        /// It was done.
        Success => "SUCCESS",
        /// It was refused, or can't be read.
        Failed => "FAILED",
        /// A group failed to handle it, and tries again later.
        Retrying => "RETRYING",
        /// It waits for the group's next batch of parked events.
        Parked => "PARKED",
        /// A group has set it aside.
        Dead => "DEAD",
    }
}

words! {
    /// What is odd about a record.
    Mark, "mark" {
        /// It names no trace.
        NoTraceId => "no-trace-id",
        /// What it names is no trace.
        InvalidTraceId => "invalid-trace-id",
        /// It belongs to its saga by key, and to another trace.
        OtherTrace => "other-trace",
        /// It has no id that can be read.
        NoEventId => "no-event-id",
        /// Its type is not the topic's.
        UnknownType => "unknown-type",
        /// A newer version of its type than is known here: a later release reads it.
        UnknownVersion => "unknown-version",
        /// It is no event, or not of its type's schema.
        Unreadable => "unreadable",
    }
}
