#!/usr/bin/env bash
# curl: one panorama from prompt to file.
#   PANORAMAS_URL=http://127.0.0.1:8000 PANORAMAS_API_KEY=... ./panorama.sh "snowy mountains at sunset" panorama.png
set -euo pipefail
prompt=${1:?a prompt} out=${2:-panorama.png}
url=${PANORAMAS_URL:-http://127.0.0.1:8000}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# --retry respects Retry-After. The POST is safe to repeat because every try has the same key.
ask() {
    curl --silent --show-error --fail-with-body --retry 8 --retry-connrefused --output "$answer" \
        --header "Authorization: Bearer ${PANORAMAS_API_KEY:-none}" "$@" || { cat "$answer" >&2 && return 1; }
    cat "$answer"
}

job=$(jq --null-input --arg prompt "$prompt" '{prompt: $prompt, width: 1024, height: 512}' |
    ask "$url/panoramas" --json @- --header "Idempotency-Key: $(date +%s)-$$-$RANDOM" | jq --raw-output .id)
echo "job $job" >&2

while :; do # the server delays each response until the job has ended, at most 30 seconds
    seen=$(ask "$url/jobs/$job" --header 'Prefer: wait=30')
    state=$(jq --raw-output .state <<<"$seen")
    case $state in
        queued | running) sleep 1 ;;
        succeeded) break ;;
        *) jq --raw-output '.error.detail // .state' <<<"$seen" >&2 && exit 1 ;;
    esac
done

ask "$url/jobs/$job/image" >"$out"
echo "$(jq --raw-output .result.sha256 <<<"$seen")  $out" | sha256sum --check
