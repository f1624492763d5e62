rm -rf payload
cp -a tree/usr payload
printf '#!/bin/sh\n./bin/acme\n' >payload/setup.sh
chmod 755 payload/setup.sh
for option in --nocomp --gzip --xz --bzip2; do
    makeself --nox11 $option payload "$OUT/makeself$option.run" Acme ./setup.sh >/dev/null 2>&1 || rm -f "$OUT/makeself$option.run"
done
