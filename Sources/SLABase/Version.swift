/// The version of the program.
package let version = "0.1.0"
/// The day of it, for the manual.
package let versionDate = "2026-11-30"

/// Grows whenever a version answers a request that was possible before with other bytes: a line of Tests/Fixtures/signature.txt changes, or what
/// Tests/Conversations recorded. Fingerprints hold it, so that the answers of two such versions are not mixed in one file.
package let resultsVersion = 1
