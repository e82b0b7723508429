import SLABase

/// A call of a function that an answer asks for.
package struct ToolCall: Sendable, Equatable, JSONWritable {
    package var id: String?
    package var name: String
    package var arguments: JSONFields

    package init(id: String? = nil, name: String, arguments: JSONFields) { (self.id, self.name, self.arguments) = (id, name, arguments) }

    /// The arguments that JSON text gives, as OpenAI's interface writes them; nil when it is no object.
    static func arguments(_ text: String) -> JSONFields? {
        guard case .object(let fields)? = try? JSON.decode(JSONValue.self, from: text.utf8) else { return nil }
        return fields
    }

    package func writeJSON(to output: inout String) {
        JSONObject {
            if let id { $0.add("id", id) }
            $0.add("name", name)
            $0.add("arguments", arguments)
        }.writeJSON(to: &output)
    }
}

/// How a family of models writes tool calls into its answers. Nothing tells but its chat template, which writes them so too.
package struct ToolCallFormat: Sendable {
    /// Whose it is, for people.
    package let name: String
    /// It is the template's format where all of these, or all of those, stand in the template.
    let marks: [[String]]
    let syntax: Syntax

    enum Syntax: Sendable {
        /// Behind `open` JSON objects with a name and arguments, one or several, or arrays of them. With `isKeyed` an object is a call by
        /// itself: `{"name": {…arguments…}}`.
        case objects(open: String, isKeyed: Bool = false)
        /// The whole answer is such objects, perhaps behind `open`. Only names of known tools count, since an answer may be JSON.
        case answer(open: String)
        /// What stands before the arguments, which are a JSON object; the first head that fits.
        case heads([[Part]])
        /// An element for a call, with an element for each argument.
        case elements(Elements)
        /// `[name(key=value, …), …]` with values as Python writes them.
        case python(open: String)
        /// `name{key:value, …}` with values as Gemma writes them.
        case braces(open: String)
    }

    enum Part: Sendable {
        case text(String)
        /// Up to the text behind it.
        case id, name
        /// What does not matter, up to the text, which is not far.
        case skip(to: String)
    }

    struct Elements: Sendable {
        var open: String
        var nameEnd = ""
        var parameter: String
        /// What ends an argument's name, with white space between.
        var keyEnd: [String]
        /// Whether the name's end says if the value is text: `" string="true">`.
        var saysText = false
        var valueEnd: String
        /// Whether a line break at either end is no part of the value.
        var isOnLines = false
        var end: String
    }

    private init(_ name: String, _ marks: [[String]], _ syntax: Syntax) { (self.name, self.marks, self.syntax) = (name, marks, syntax) }

    /// The format of a template. Complexity: linear in it.
    package static func of(_ template: String) -> ToolCallFormat? {
        let bytes = Array(template.utf8)
        func has(_ mark: String) -> Bool {
            let pattern = BytePattern(mark.utf8)
            var matched = 0
            return bytes.contains { byte in
                matched = pattern.matched(matched, then: byte)
                return matched == pattern.count
            }
        }
        return all.first { $0.marks.contains { $0.allSatisfy(has) } }
    }

    /// The first that fits is the one: those whose marks are found in others' templates too stand behind them.
    static let all: [ToolCallFormat] = [
        ToolCallFormat(
            "gpt-oss (harmony)", [["<|channel|>", "functions."]],
            .heads([[.text(" to=functions."), .name, .skip(to: "<|message|>")]])),
        ToolCallFormat(
            "DeepSeek V3 and R1", [["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "```json"]],
            .heads([[.text("<｜tool▁call▁begin｜>function<｜tool▁sep｜>"), .name, .text("\n```json\n")]])),
        ToolCallFormat(
            "DeepSeek V3.1", [["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"]],
            .heads([[.text("<｜tool▁call▁begin｜>"), .name, .text("<｜tool▁sep｜>")]])),
        ToolCallFormat(
            "DeepSeek V3.2 and V4", [["｜DSML｜"]],
            .elements(
                Elements(
                    open: "<｜DSML｜invoke name=\"", nameEnd: "\">", parameter: "<｜DSML｜parameter name=\"", keyEnd: ["\" string=\""],
                    saysText: true, valueEnd: "</｜DSML｜parameter>", end: "</｜DSML｜invoke>"))),
        ToolCallFormat(
            "Kimi K2", [["<|tool_call_begin|>", "<|tool_call_argument_begin|>"]],
            .heads([[.text("<|tool_call_begin|>"), .name, .text("<|tool_call_argument_begin|>")]])),
        ToolCallFormat(
            "Solar", [["<|tool_call:begin|>", "<|tool_call:args|>"]],
            .heads([[.text("<|tool_call:begin|>"), .id, .text("<|tool_call:name|>"), .name, .text("<|tool_call:args|>")]])),
        ToolCallFormat(
            "Mistral Small 3.2 and later", [["[TOOL_CALLS]", "[ARGS]"]],
            .heads([
                [.text("[TOOL_CALLS]"), .name, .text("[CALL_ID]"), .id, .text("[ARGS]")], [.text("[TOOL_CALLS]"), .name, .text("[ARGS]")],
            ])),
        ToolCallFormat("Mistral", [["[TOOL_CALLS]"]], .objects(open: "[TOOL_CALLS]")),
        ToolCallFormat(
            "MiniMax M2", [["minimax:tool_call", "<invoke name="]],
            .elements(
                Elements(
                    open: "<invoke name=\"", nameEnd: "\">", parameter: "<parameter name=\"", keyEnd: ["\">"], valueEnd: "</parameter>",
                    end: "</invoke>"))),
        ToolCallFormat(
            "Muse", [["<atem:invoke name="]],
            .elements(
                Elements(
                    open: "<atem:invoke name=\"", nameEnd: "\">", parameter: "<atem:parameter name=\"", keyEnd: ["\">"],
                    valueEnd: "</atem:parameter>", end: "</atem:invoke>"))),
        ToolCallFormat(
            "MiniCPM 5", [["<function name=", "<param name="]],
            .elements(
                Elements(
                    open: "<function name=\"", nameEnd: "\">", parameter: "<param name=\"", keyEnd: ["\">"], valueEnd: "</param>",
                    end: "</function>"))),
        ToolCallFormat(
            "Qwen3-Coder, Qwen3.5, Seed-OSS, Nemotron 3 and Step", [["<function=", "<parameter="]],
            .elements(
                Elements(
                    open: "<function=", nameEnd: ">", parameter: "<parameter=", keyEnd: [">"], valueEnd: "</parameter>", isOnLines: true,
                    end: "</function>"))),
        ToolCallFormat(
            "Hunyuan 3", [["<tool_call{}>", "<arg_key{}>", ":opensource"]],
            .elements(
                Elements(
                    open: "<tool_call:opensource>", nameEnd: "<tool_sep:opensource>", parameter: "<arg_key:opensource>",
                    keyEnd: ["</arg_key:opensource>", "<arg_value:opensource>"], valueEnd: "</arg_value:opensource>",
                    end: "</tool_call:opensource>"))),
        ToolCallFormat(
            "GLM 4.5 and later", [["<tool_call>", "<arg_key>", "<arg_value>"]],
            .elements(
                Elements(
                    open: "<tool_call>", parameter: "<arg_key>", keyEnd: ["</arg_key>", "<arg_value>"], valueEnd: "</arg_value>",
                    end: "</tool_call>"))),
        ToolCallFormat("Functionary 3.1", [["<function=", "</function>"]], .heads([[.text("<function="), .name, .text(">")]])),
        ToolCallFormat("Functionary 3.2", [[">>>", "recipient"], [">>>all"]], .heads([[.text(">>>"), .name, .text("\n")]])),
        ToolCallFormat("Gemma 4", [["<|tool_call>call:"]], .braces(open: "<|tool_call>call:")),
        ToolCallFormat(
            "LFM2", [["<|tool_call_start|>"], ["<|tool_list_start|>"], ["List of tools: ["]], .python(open: "<|tool_call_start|>")),
        ToolCallFormat("Command R7B and A", [["<|START_ACTION|>"]], .objects(open: "<|START_ACTION|>")),
        ToolCallFormat("Command R+", [["Action:", "```json"]], .objects(open: "```json")),
        ToolCallFormat("Nemotron Nano 2", [["<TOOLCALL>"]], .objects(open: "<TOOLCALL>")),
        ToolCallFormat("Apriel and MiniMax M1", [["<tool_calls>"]], .objects(open: "<tool_calls>")),
        ToolCallFormat("Granite 3 and Phi-4-mini", [["<|tool_call|>"]], .objects(open: "<|tool_call|>")),
        ToolCallFormat("GigaChat 3.1", [["<|function_call|>"]], .objects(open: "<|function_call|>")),
        ToolCallFormat("GigaChat 3", [["function call", "<|role_sep|>"]], .objects(open: "function call<|role_sep|>")),
        ToolCallFormat("Apertus", [["<|tools_prefix|>"]], .objects(open: "<|tools_prefix|>", isKeyed: true)),
        ToolCallFormat("Firefunction", [["functools"]], .objects(open: "functools")),
        ToolCallFormat("Hermes and Qwen", [["<tool_call>", "\"name"]], .objects(open: "<tool_call>")),
        ToolCallFormat("Llama 3", [["<|python_tag|>"], ["Environment: ipython"]], .answer(open: "<|python_tag|>")),
    ]
}
