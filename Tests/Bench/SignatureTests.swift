import Foundation
import Testing

@testable import SLABench
@testable import SLAEngine

@Suite struct SignatureTests {
    /// `sla bench --signature Tests/Fixtures/archs/*.gguf > Tests/Fixtures/signature.txt` writes it anew; a commit that does says why results
    /// have changed.
    @Test(arguments: [1, 2, 5]) func theSignatureIsTheCommittedOneOnAnyNumberOfThreads(_ threads: Int) throws {
        let committed = String(decoding: try Fixtures.bytes("signature.txt"), as: UTF8.self)
        #expect(try Signature(threads: threads, models: ArchitectureTests.fixtures.map(Fixtures.path)).description == committed)
    }
}
