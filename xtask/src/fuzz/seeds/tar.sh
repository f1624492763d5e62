cd tree
mkfifo opt/pipe
long=opt/$(printf 'd%.0s' $(seq 60))/$(printf 'e%.0s' $(seq 60))
mkdir -p "$long"
echo x >"$long/$(printf 'f%.0s' $(seq 60))"
truncate -s 100000 opt/hole
printf data | dd of=opt/hole bs=1 seek=50000 conv=notrunc status=none
pack="tar --blocking-factor=1 --owner=0 --group=0 --mtime=@1700000000 --sort=name -cf"
for format in gnu oldgnu pax ustar v7; do
    $pack "$OUT/$format.tar" --format=$format usr etc opt/acme/libf.so opt/acme/libf.so.1
done
for format in gnu pax ustar; do
    $pack "$OUT/long-$format.tar" --format=$format "$long" opt/pipe
done
$pack "$OUT/sparse-gnu.tar" --format=gnu --sparse opt/hole
for version in 0.0 0.1 1.0; do
    $pack "$OUT/sparse-$version.tar" --format=pax --sparse --sparse-version=$version opt/hole
done
$pack "$OUT/label.tar" --format=gnu --label=acme usr/bin
$pack "$OUT/xattrs.tar" --format=pax --pax-option='SCHILY.xattr.user.a:=1,SCHILY.xattr.security.capability:=x' usr/bin
$pack "$OUT/device.tar" /dev/null 2>/dev/null
rm -r opt/pipe opt/hole "$(dirname "$(dirname "$long")")"/d*
for compressor in gzip xz zstd bzip2; do
    if command -v $compressor >/dev/null; then
        $pack - usr etc | $compressor -c >"$OUT/tar.$compressor"
        printf '\177ELF not long' | $compressor -c >"$OUT/lone.$compressor"
    fi
done
