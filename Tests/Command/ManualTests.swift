import Foundation
import Testing

/// The manual and the shells' completions, read by the programs that they are for.
@Suite struct ManualTests {
    static func isThere(_ tool: String) -> Bool { (try? CommandTests.shell("command -v \(tool)"))?.status == 0 }

    @Test func theManualHasEveryCommandAndFlag() throws {
        let page = try CommandTests.run(["man"]).output
        let list = try CommandTests.run(["--help"]).output
        let commands = list.matches(of: #/\n  ([a-z]+) /#).map { String($0.output.1) }
        #expect(commands.contains("serve") && commands.contains("completions"))
        for command in commands {
            #expect(page.contains("\n.SS \"sla \(command)\"\n"))
            for flag in try CommandTests.run([command, "--help"]).output.matches(of: #/\n  (--[a-z-]+)/#) where flag.output.1 != "--help" {
                #expect(page.contains("\\fB\(flag.output.1.replacing("-", with: "\\-"))\\fR"), "\(command) \(flag.output.1)")
            }
        }
        #expect(page.contains("SLA_MODEL") && page.contains("NO_COLOR"))
    }

    @Test(.enabled(if: isThere("mandoc"), "mandoc looks for mistakes")) func mandocFindsNothingToWarnOf() throws {
        let result = try CommandTests.shell("\"$SLA\" man | mandoc -Tlint -W warning")
        #expect(result.status == 0 && result.output.isEmpty, "\(result.output)")
    }

    @Test(.enabled(if: isThere("bash"), "bash completes")) func bashCompletes() throws {
        func completed(_ words: [String]) throws -> Set<String> {
            let script = """
                folder=$(mktemp -d); cd "$folder"; touch model.gguf 'a b.gguf'; mkdir sub
                eval "$("$SLA" completions bash)"
                COMP_WORDS=(\(words.map { "'\($0)'" }.joined(separator: " "))); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sla
                printf '%s\\n' "${COMPREPLY[@]}"; rm -r "$folder"
                """
            let result = try CommandTests.shell("bash -c '\(script.replacing("'", with: "'\\''"))'")
            #expect(result.status == 0 && result.errors.isEmpty, "\(result.errors)")
            return Set(result.output.split(separator: "\n").map(String.init))
        }
        #expect(try completed(["sla", "r"]) == ["run", "rollouts", "replay"])
        #expect(try completed(["sla", "run", "--mo"]) == ["--model"])
        #expect(try completed(["sla", "run", "--model", ""]) == ["model.gguf", "a b.gguf", "sub"])
        #expect(try completed(["sla", "run", "--model", "=", "m"]) == ["model.gguf"])
        #expect(try completed(["sla", "run", "--decoder", "s"]) == ["sla", "sample"])
        #expect(try completed(["sla", "run", "--colour", "=", ""]) == ["always", "never", "auto"])
        #expect(try completed(["sla", "run", "--threads", ""]) == [])
        #expect(try completed(["sla", "--rec"]) == ["--record"], "of serve")
        #expect(try completed(["sla", "inspect", "mod"]) == ["model.gguf"])
        #expect(try completed(["sla", "help", "ev"]) == ["eval"])
    }

    @Test(.enabled(if: isThere("fish"), "fish completes")) func fishCompletes() throws {
        func completed(_ line: String) throws -> Set<String> {
            let script = "cd (mktemp -d); touch model.gguf; $SLA completions fish | source; complete -C \"\(line)\" | string split -f 1 \\t"
            let result = try CommandTests.shell("HOME=$(mktemp -d) fish --no-config -c '\(script)'")
            return Set(result.output.split(separator: "\n").map(String.init))
        }
        #expect(try completed("sla ro") == ["rollouts"])
        #expect(try completed("sla run --rew") == ["--reward"])
        #expect(try completed("sla run --model mo") == ["model.gguf"])
        #expect(try completed("sla run --score l") == ["last", "logprob"])
        #expect(try completed("sla --reco") == ["--record"])
        #expect(try completed("sla view mo") == ["model.gguf"])
        #expect(try completed("sla help repl") == ["replay"])
    }

    /// In a terminal, since zsh completes nowhere else.
    @Test(.enabled(if: isThere("zsh") && isThere("tmux"), "zsh completes in tmux")) func zshCompletes() throws {
        func completed(_ line: String) throws -> String {
            let result = try CommandTests.shell(
                """
                folder=$(mktemp -d); cd "$folder"; touch model.gguf; "$SLA" completions zsh >_sla
                printf 'fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D; PS1="> "; touch ready\\n' "$folder" >.zshrc
                export TERM=screen ZDOTDIR="$folder" HOME="$folder" LC_ALL=C.UTF-8
                tmux() { command tmux -S "$folder/socket" -f /dev/null "$@"; }
                tmux new-session -d -x 200 -y 30 zsh
                for i in $(seq 200); do [ -e ready ] && break; sleep 0.05; done
                tmux send-keys -l '\(line)'; tmux send-keys Tab
                # Until the line has grown.
                for i in $(seq 400); do tmux capture-pane -p | grep -q -- '^> \(line).' && break; sleep 0.05; done; sleep 0.3
                tmux capture-pane -p; tmux kill-server; cd /; rm -r "$folder"
                """)
            return String(result.output.split(separator: "\n").first { $0.hasPrefix("> ") } ?? "\(result)")
        }
        #expect(try completed("sla rol") == "> sla rollouts")
        #expect(try completed("sla run --rew") == "> sla run --reward=")
        #expect(try completed("sla run --model=mo") == "> sla run --model=model.gguf")
        #expect(try completed("sla run --decoder gre") == "> sla run --decoder greedy")
        #expect(try completed("sla inspect mo") == "> sla inspect model.gguf")
        #expect(try completed("sla --reco") == "> sla --record=")
    }
}
