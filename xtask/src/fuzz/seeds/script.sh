printf '#!/bin/sh\ntail -n +4 "$0" | tar xz\nexit 0\n' >head
(cd tree && tar -czf - --owner=0 --group=0 usr) | cat head - >"$OUT/tail.sh"
(cd tree && tar -cf - --owner=0 --group=0 usr/bin) | cat head - >"$OUT/plain.sh"
printf '#!/bin/bash\nARCHIVE=$(awk "/^__ARCHIVE_BELOW__/ {print NR + 1; exit 0; }" "$0")\ntail -n+$ARCHIVE "$0" | tar xzv\nexit 0\n__ARCHIVE_BELOW__\n' >head
(cd tree && tar -czf - --owner=0 --group=0 etc) | cat head - >"$OUT/marker.sh"
printf '#!/usr/bin/env python3\nprint("no payload")\n' >"$OUT/none.py"
(cat head; cat bin/prog) >"$OUT/program.sh"
printf '#!/bin/sh\nsed -e "1,3d" "$0" | base64 -d | tar xz\nexit\n' >head
(cd tree && tar -czf - --owner=0 --group=0 etc) | base64 | cat head - >"$OUT/base64.sh"
