import Foundation
import Testing

@testable import SLABase
@testable import SLABench
@testable import SLAEngine

/// Many clients busy with one service for a few seconds; `Examples/soak` does the same to the program, for as long as asked.
@Suite struct SoakTests {
    @Test(arguments: [UInt64(1), 2]) func manyClientsGetWhatTheProtocolPromises(_ seed: UInt64) throws {
        let model = try Model.builtIn()
        let engine = Engine(model, threads: Int(seed), cacheBytes: 200 * Engine(model).cachePages.bytesPerPage)
        let client = ServiceClient(engine, withTiming: true)
        var maker = RequestMaker(seed: seed, prompts: RequestMaker.puzzles)
        maker.longest = 60
        var random = SeededGenerator(seed: seed &+ 77)
        var checker = EventChecker()
        var (sent, running): (Int, [Int]) = (0, [])
        let end = ContinuousClock.now + .seconds(2)
        while ContinuousClock.now < end, checker.violations.isEmpty {
            while sent - checker.ended < 40 {
                sent += 1
                switch Int.random(in: 0..<20, using: &random) {
                case 0, 1, 2, 3:
                    client.send("{\"id\":\(sent),\"type\":\"cancel\",\"target\":\(running.randomElement(using: &random) ?? 0)}")
                case 4: client.send("{\"id\":\(sent),\"prompt\":")
                case 5: client.send("{\"id\":\(sent),\"type\":\"\(Bool.random(using: &random) ? "clear_cache" : "stats")\"}")
                case 6:
                    let deadline = Int.random(in: 0...20, using: &random)
                    client.send("{\"id\":\(sent),\"prompt\":\"3 5 7 2>24\\n\",\"ignore_eos\":true,\"deadline_ms\":\(deadline)}")
                default:
                    client.send(maker.line(id: "\(sent)"))
                    running.append(sent)
                    if running.count > 50 { running.removeFirst() }
                }
            }
            // Now and then the reader is slow.
            if Int.random(in: 0..<200, using: &random) == 0 { usleep(50_000) }
            guard let line = client.line(within: 60) else {
                Issue.record("nothing comes, though \(sent - checker.ended) requests are open")
                break
            }
            checker.take(line)
        }
        for line in client.finish() { checker.take(line) }
        checker.finish()
        #expect(checker.violations.isEmpty, "seed \(seed)")
        #expect(checker.ended == sent, "each request has one end")
        #expect(engine.isIdle && engine.leakedPages == 0)
    }
}
