// SwiftPM wants a source file in every target.
