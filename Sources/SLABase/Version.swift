/// The version of the program.
package let version = "0.1.0"
/// The day of it, for the manual.
package let versionDate = "2026-11-30"
