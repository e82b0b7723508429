#!/usr/bin/env bash
# Fuzzes every target, or those that are named: Tests/Fuzz/run.sh [SECONDS [TARGET…]]. README.md beside this tells what that means.
# Two run at a time. It fails where one of them found an input that crashes, hangs or takes too much memory.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(requests models safetensors channels records templates json grammars tokenizers)
build=${SLA_FUZZ_BUILD:-.build/fuzz}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { sed -n 2,3p Tests/Fuzz/run.sh; exit 2; }
for target in "${targets[@]}"; do [ -d "Tests/Fuzz/corpus/$target" ] || { echo "there is no target $target"; exit 2; }; done

mkdir -p "$build"
SLA_FUZZ=1 swift build --product fuzz --sanitize=address --scratch-path "$build" >"$build/build.log" 2>&1 || { tail -n 40 "$build/build.log"; exit 1; }

fuzz() { # SECONDS TARGET
    local log=$build/$2.log
    mkdir -p "$build/corpus/$2" "$build/found"
    # XCTest's and Foundation's few lost bytes are not looked for; an input may take 25 seconds, since instrumented code is slow.
    ASAN_OPTIONS=detect_leaks=0 SLA_FUZZ_TARGET=$2 "$build/debug/fuzz" -max_total_time="$1" -timeout=25 -rss_limit_mb=2048 -max_len=16384 \
        -print_final_stats=1 -artifact_prefix="$build/found/$2-" "$build/corpus/$2" "Tests/Fuzz/corpus/$2" >"$log" 2>&1 ||
        { tail -n 60 "$log"; echo "$2: FAILED; the input is in $build/found"; return 1; }
    echo "$2: $(awk '/^stat::number_of_executed_units/ { print $2 }' "$log") executions," \
        "$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "$log" | tail -n 1)"
}
export -f fuzz
export build
printf '%s\0' "${targets[@]}" | xargs -0 -P 2 -I{} bash -c 'fuzz "$@"' _ "$seconds" {}
