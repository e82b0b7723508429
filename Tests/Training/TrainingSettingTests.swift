import Testing

@testable import SLABase
@testable import SLATraining

/// The description of the settings.
@Suite struct TrainingSettingTests {
    @Test func everyOptionIsDescribedOnce() {
        let described = TrainingSetting.all.count
        #expect(Set(TrainingSetting.all.map(\.name)).count == described)
        #expect(Mirror(reflecting: TrainingOptions()).children.count == described, "a setting for every option")
        #expect(throws: Never.self) { try TrainingOptions().check() }
    }

    @Test func theHelpTellsTheDefaultThatHolds() {
        let help = Dictionary(uniqueKeysWithValues: TrainingSetting.all.map { ($0.name, $0.help) })
        #expect(help["epochs"] == "times through the data (default: 3, the paper's)")
        #expect(help["clip"] == "longest gradient; 0 leaves all as they are (default: 1)")
        #expect(help["rate"]?.contains("(default: 0.001; the paper has") == true)
        #expect(help["head-width"]?.hasSuffix("(default: the policy's width)") == true)
        #expect(help["sla"]?.contains("default") == false)
    }

    @Test func whatIsOutOfRangeIsNamed() {
        for (name, wrong) in [
            ("width", { $0.size = 0 }), ("head-layers", { $0.headLayers = 17 }), ("head-width", { $0.headHiddenSize = 1 << 17 }),
            ("epochs", { $0.epochs = 0 }), ("batch", { $0.batch = -1 }), ("rate", { $0.rate = 0 }), ("rate", { $0.rate = .nan }),
            ("warmup", { $0.warmup = 1.5 }), ("weight-decay", { $0.weightDecay = -1 }), ("clip", { $0.clip = .infinity }),
            ("seed", { $0.seed = -1 }), ("held-out", { $0.heldOut = 1 }),
            (
                "width",
                {
                    $0.recommended = .init(); $0.recommended?.width = 0
                }
            ),
        ] as [(String, (inout TrainingOptions) -> Void)] {
            var options = TrainingOptions()
            wrong(&options)
            #expect { try options.check() } throws: { ($0 as? RequestFailure)?.message.hasPrefix("\(name) must") == true }
        }
    }
}
