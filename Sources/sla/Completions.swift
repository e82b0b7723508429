/// What shells complete: commands, flags, and their values where they are files or words.
enum Completions {
    static let flags = [Flag("--help", nil, "this text")]
    private static let shells: [(name: String, script: @Sendable () -> String)] = [
        ("bash", { bash }), ("zsh", { zsh }), ("fish", { fish }),
    ]

    static let help = Help(
        """
        Usage: sla completions \(shells.map(\.name).joined(separator: "|"))

        Writes what a shell completes of this program's commands, flags, files and words. Packages bring it; by hand:
          sla completions bash > ~/.local/share/bash-completion/completions/sla
          sla completions zsh > "${fpath[1]}/_sla"
          sla completions fish > ~/.config/fish/completions/sla.fish
        """, flags)

    static func run(_ arguments: Arguments) throws -> Int32 {
        guard arguments.operands.count == 1, let shell = shells.first(where: { $0.name == arguments.operands[0] }) else {
            throw UsageError("completions takes one operand: \(shells.map(\.name).joined(separator: ", "))")
        }
        try say("# sla \(shell.name) completion, written by `sla completions \(shell.name)`\n".leading(shell.name) + shell.script())
        return 0
    }

    /// For people, in a line: shorter than the help where that goes on.
    private static func short(_ flag: Flag) -> String {
        let help = flag.help
        guard help.count > 70 else { return help }
        return help.wrapped(to: 69).prefix { $0 != "\n" } + "…"
    }

    private static func takesFiles(_ command: Command) -> Bool { command.operands.contains("FILE") }

    // MARK: - bash

    private static var bash: String {
        var script = """
            _sla() {
                local words=("${COMP_WORDS[@]:1:COMP_CWORD}") current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
                # "=" is a word of its own.
                if [ "$current" = = ]; then current=; elif [ "$before" = = ]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi
                local command=serve flags values files operands=
                case ${words[0]} in
                    -*) ;;
                    *) if [ ${#words[@]} -gt 1 ]; then command=${words[0]}; fi ;;
                esac
                case $command in

            """
        for command in commands {
            script += "        \(command.name))\n"
            script += "            flags='\(command.help.flags.map(\.name).joined(separator: " "))'\n"
            if takesFiles(command) { script += "            operands=1\n" }
            script += "            case $before in\n"
            for flag in command.help.flags where flag.value != nil {
                let action = flag.file != nil ? "files=1" : "values='\(flag.choices.isEmpty ? " " : flag.choices.joined(separator: " "))'"
                script += "                \(flag.name)) \(action) ;;\n"
            }
            script += "            esac ;;\n"
        }
        return script + """
                    help) values='\(commands.map(\.name).joined(separator: " "))' ;;
                esac
                if [ -n "$files" ]; then
                    mapfile -t COMPREPLY < <(compgen -f -- "$current")
                    compopt -o filenames 2>/dev/null
                elif [ -n "$values" ]; then
                    mapfile -t COMPREPLY < <(compgen -W "$values" -- "$current")
                elif [[ $current == -* ]]; then
                    mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current")
                elif [ ${#words[@]} -eq 1 ]; then
                    mapfile -t COMPREPLY < <(compgen -W '\(commands.map(\.name).joined(separator: " ")) help' -- "$current")
                elif [ -n "$operands" ]; then
                    mapfile -t COMPREPLY < <(compgen -f -- "$current")
                    compopt -o filenames 2>/dev/null
                fi
            }
            complete -F _sla sla

            """
    }

    // MARK: - zsh

    private static var zsh: String {
        func quoted(_ text: String) -> String {
            text.map { ["'": "'\\''", "[": "\\[", "]": "\\]", ":": "\\:", "\\": "\\\\"][$0] ?? String($0) }.joined()
        }
        func spec(_ flag: Flag) -> String {
            let about = "[\(quoted(short(flag)))]"
            guard let value = flag.value else { return "'\(flag.name)\(about)'" }
            let action = flag.file != nil ? "_files" : flag.choices.isEmpty ? " " : "(\(flag.choices.joined(separator: " ")))"
            return "'\(flag.repeats ? "*" : "")\(flag.name)=\(about):\(value):\(action)'"
        }
        var script = """
            _sla() {
                local -a commands=(

            """
        for command in commands { script += "        '\(command.name):\(quoted(command.summary))'\n" }
        script += """
                    'help:describe a command'
                )
                if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
                    _describe command commands
                    return
                fi
                local command=serve
                if [[ $words[2] != -* ]]; then
                    command=$words[2]
                    shift words
                    (( CURRENT-- ))
                fi
                case $command in

            """
        for command in commands {
            let specs = command.help.flags.map(spec) + (takesFiles(command) ? ["'*:file:_files'"] : [])
            script += "        \(command.name))\n            _arguments -S \\\n"
            script += specs.map { "                \($0)" }.joined(separator: " \\\n") + " ;;\n"
        }
        return script + """
                    help) _describe command commands ;;
                esac
            }
            if [ "$funcstack[1]" = _sla ]; then _sla "$@"; else compdef _sla sla; fi

            """
    }

    // MARK: - fish

    private static var fish: String {
        func quoted(_ text: String) -> String { "'" + text.map { ["'": "\\'", "\\": "\\\\"][$0] ?? String($0) }.joined() + "'" }
        var script = """
            function __sla_command
                set -l words (commandline -opc)
                if test (count $words) -lt 2; or string match -q -- '-*' $words[2]
                    echo serve
                else
                    echo $words[2]
                end
            end
            function __sla_is
                test (__sla_command) = $argv[1]
            end
            complete -c sla -f

            """
        let first = "-n 'test (count (commandline -opc)) -eq 1'"
        for command in commands { script += "complete -c sla \(first) -a \(command.name) -d \(quoted(command.summary))\n" }
        script += "complete -c sla \(first) -a help -d 'describe a command'\n"
        script += "complete -c sla -n '__sla_is help' -a '\(commands.map(\.name).joined(separator: " "))'\n"
        for command in commands {
            let condition = "complete -c sla -n '__sla_is \(command.name)'"
            for flag in command.help.flags {
                var line = "\(condition) -l \(flag.name.dropFirst(2)) -d \(quoted(short(flag)))"
                if flag.value != nil {
                    line += flag.file != nil ? " -r -F" : " -x"
                    if !flag.choices.isEmpty { line += " -a '\(flag.choices.joined(separator: " "))'" }
                }
                script += line + "\n"
            }
            if takesFiles(command) { script += "\(condition) -F\n" }
        }
        return script
    }
}

extension String {
    /// zsh wants its own first line.
    fileprivate func leading(_ shell: String) -> String { shell == "zsh" ? "#compdef sla\n" + self : self }
}
