#!/usr/bin/env bash
# Many panoramas: a file of prompts becomes a folder of pictures. After an interruption, start it again to resume.
#   PANORAMAS_URL=http://127.0.0.1:8000 PANORAMAS_API_KEY=... ./batch.sh prompts.txt pictures
set -euo pipefail
prompts=${1:?a file with a prompt on each line} folder=${2:?a folder}

mkdir -p "$folder"
# The file of requests is written once, into the folder, so that it is the same at every start.
requests=$folder/requests.jsonl
[ -e "$requests" ] || {
    jq --raw-input --compact-output 'select(. != "") | {prompt: ., width: 1024, height: 512, id: input_line_number}' \
        "$prompts" >"$requests.part"
    mv "$requests.part" "$requests"
}

status=0
panoramas batch "$requests" -o "$folder" || status=$?
case $status in
    1) [ ! -e "$folder/failures.jsonl" ] || jq --compact-output '{line, error: (.errors // .error)}' "$folder/failures.jsonl" ;;
    130) echo "interrupted: start it again to resume" >&2 ;;
esac
exit $status
