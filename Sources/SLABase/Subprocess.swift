internal import CSystem

/// A program that was started, with a pipe to its standard input and one from each of its outputs.
///
/// It is ended, with all that it started, when this object goes.
package final class Subprocess {
    /// 0 once it has ended.
    package private(set) var id: pid_t = 0
    /// What is written here it reads; -1 once it is closed.
    package private(set) var input: Int32
    /// What it says is read here.
    package let output: Int32
    /// What it complains is read here.
    package let errors: Int32
    private var status: Int32 = 0
    private let clock = ContinuousClock()

    /// Starts the program at `path`. Throws ``FileError``.
    ///
    /// - Parameters:
    ///   - words: its arguments, the first being what it is called.
    ///   - name: what an error calls it.
    package init(_ path: String, _ words: [String], name: String) throws {
        var ends: [Int32] = []
        func failed(_ number: Int32) -> FileError {
            for end in ends { close(end) }
            return FileError(cannot: "start \(name)", number)
        }
        for _ in 0..<3 {
            guard let pipe = Subprocess.pipe() else { throw failed(errno) }
            ends += [pipe.read, pipe.write]
        }
        #if canImport(Darwin)
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #else
            var actions = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
        posix_spawn_file_actions_adddup2(&actions, ends[3], 1)
        posix_spawn_file_actions_adddup2(&actions, ends[5], 2)
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // A group of its own, so that all of it can be ended, and Ctrl-C ends it through us; signals as a program expects them.
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF))
        posix_spawnattr_setpgroup(&attributes, 0)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for number in [SIGPIPE, SIGXFSZ, SIGINT, SIGTERM] { sigaddset(&defaults, number) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        var words: [UnsafeMutablePointer<CChar>?] = words.map { (word: String) in strdup(word) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var started: pid_t = 0
        let failure = posix_spawn(&started, path, &actions, &attributes, &words, environ)
        guard failure == 0 else { throw failed(failure) }
        close(ends[0])
        close(ends[3])
        close(ends[5])
        (id, input, output, errors) = (started, ends[1], ends[2], ends[4])
        // A program that closes its input is an error of the write, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
    }

    deinit {
        closeInput()
        close(output)
        close(errors)
        guard id > 0 else { return }
        kill(-id, SIGTERM)
        if !hasEnded(within: .milliseconds(500)) {
            kill(-id, SIGKILL)
            _ = hasEnded(within: .seconds(5))
        }
    }

    /// Descriptors that no other program inherits.
    private static func pipe() -> (read: Int32, write: Int32)? {
        var ends: [Int32] = [0, 0]
        #if canImport(Glibc)
            guard pipe2(&ends, O_CLOEXEC) == 0 else { return nil }
        #else
            guard Darwin.pipe(&ends) == 0 else { return nil }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        #endif
        return (ends[0], ends[1])
    }

    /// Says that nothing more will come.
    package func closeInput() {
        if input >= 0 { close(input) }
        input = -1
    }

    /// Waits for its end, so long at most.
    package func hasEnded(within limit: Duration) -> Bool {
        let deadline = clock.now + limit
        while id > 0 {
            if waitpid(id, &status, WNOHANG) == id {
                id = 0
                break
            }
            guard clock.now < deadline else { return false }
            usleep(2000)
        }
        return true
    }

    /// How it has ended: `with status 1`, `by signal 9`.
    package var end: String {
        let signal = status & 0x7f
        return signal == 0 ? "with status \(status >> 8 & 0xff)" : "by signal \(signal)"
    }
}
