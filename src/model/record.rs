//! Names of records that are put one behind the other and never changed.

/// Makes the type that names one kind of record: a second that is later than that of every record its writer knew, and eight random
/// bytes, in the form of a snapshot's name.
macro_rules! record_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::model::snapshot::SnapshotId);

        impl $name {
            /// Makes the id of a record of the second `at`.
            pub fn new(at: $crate::model::time::Timestamp, random: [u8; 8]) -> Self {
                Self($crate::model::snapshot::SnapshotId::new(at, random))
            }

            /// Makes the id of a record that is put `at` this time, and behind the `latest` one that its writer knows.
            pub fn behind(latest: Option<Self>, at: $crate::model::time::Timestamp, random: [u8; 8]) -> Self {
                let next = latest.map_or(i64::MIN, |latest| latest.time().seconds + 1);
                Self::new($crate::model::time::Timestamp::from_seconds(at.seconds.max(next)), random)
            }

            /// Returns the second in the name.
            pub fn time(&self) -> $crate::model::time::Timestamp {
                self.0.time()
            }

            /// Returns the name of its object behind the prefix of its kind.
            pub fn object_name(&self) -> String {
                self.0.object_name()
            }

            /// Reads the name of an object behind the prefix of its kind.
            pub fn from_object_name(name: &str) -> Option<Self> {
                $crate::model::snapshot::SnapshotId::from_object_name(name).map(Self)
            }

            /// Returns 16 bytes that stand for this id in key derivation: seconds (big-endian) and the random part.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }
        }
    };
}

pub(crate) use record_id;
