import SLABase

extension Problem {
    /// The problem with the command's flags that mend it.
    package var wordsWithFlags: String {
        words { remedy in
            switch remedy {
            case .largerCache: "raise --cache-mib"
            case .rewardChannel: "start with --reward FILE"
            case .judge: "start with --judge-model FILE"
            case .adapter: "start with --lora FILE"
            case .modelBeside: "give a reward channel with --reward, or an adapter with --lora, beside --model"
            case .requantizing: "sla convert --allow-requantize does that all the same"
            }
        }
    }
}
