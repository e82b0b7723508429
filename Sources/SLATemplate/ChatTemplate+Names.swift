// The names that templates may use. A template's names become these when it is parsed, so what is not here is known by then.

extension ChatTemplate {
    package enum BuiltIn: String, CaseIterable {
        case dict, namespace, range
        case raiseException = "raise_exception"
        case strftimeNow = "strftime_now"
    }

    enum Filter: String {
        case `default`, d, length, count, string, safe, trim, upper, lower, capitalize, title, replace, indent, int, abs, list, first, last
        case reverse, items, join, map, select, reject, selectattr, rejectattr, tojson, dictsort, sort, unique, min, max, sum, float
    }

    enum Test: String {
        case defined, undefined, none, string, mapping, boolean, integer, float, number, `true`, `false`, sequence, iterable, callable
        case even, odd, divisibleby, `in`, eq, equalto, ne, lt, lessthan, le, gt, greaterthan, ge
    }

    package enum StringMethod: String {
        case strip, lstrip, rstrip, startswith, endswith, split, splitlines, upper, lower, title, capitalize, replace, join, find
        case removeprefix, removesuffix, format, rsplit, rfind, count, index, isdigit, isspace, isalpha, isalnum
    }

    package enum DictionaryMethod: String {
        case items, keys, values, get
    }

    /// Python's other methods: to take one for a missing field would render something else.
    private static let otherStringMethods: Set<String> = [
        "casefold", "center", "encode", "expandtabs", "format_map", "isascii", "isdecimal", "isidentifier", "islower", "isnumeric",
        "isprintable", "istitle", "isupper", "ljust", "maketrans", "partition", "rindex", "rjust", "rpartition", "swapcase", "translate",
        "zfill",
    ]
    private static let otherDictionaryMethods: Set<String> = ["clear", "copy", "fromkeys", "pop", "popitem", "setdefault", "update"]
    private static let listMethods: Set<String> = [
        "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort",
    ]

    /// Whether values of this kind have a method of that name in Python that is not supported here.
    static func hasPythonMethod(_ name: String, _ value: Value) -> Bool {
        switch value {
        case .string: otherStringMethods.contains(name)
        case .dictionary: otherDictionaryMethods.contains(name)
        case .list: listMethods.contains(name)
        case .tuple: name == "count" || name == "index"
        case .loop: name == "changed"
        default: false
        }
    }

    /// Whether no kind of value has a method of that name here, but some have it in Python.
    static func isUnsupportedMethod(_ name: String) -> Bool {
        StringMethod(rawValue: name) == nil && DictionaryMethod(rawValue: name) == nil
            && (otherStringMethods.contains(name) || otherDictionaryMethods.contains(name) || listMethods.contains(name)
                || name == "changed")
    }
}
