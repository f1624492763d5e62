rm -rf isotree
mkdir -p isotree/Long-directory-name
cp bin/prog isotree/SETUP
printf '#!/bin/sh\n./SETUP\n' >isotree/Long-directory-name/install-me-please.sh
ln -s SETUP isotree/link
make="xorriso -as mkisofs -quiet -no-pad"
$make -o "$OUT/plain.iso" isotree/Long-directory-name
$make -R -o "$OUT/rock-ridge.iso" isotree
$make -J -o "$OUT/joliet.iso" isotree
$make -R -J -o "$OUT/both.iso" isotree
$make -R -zisofs by_magic=on -o "$OUT/zisofs.iso" isotree || true
if command -v genisoimage >/dev/null; then
    genisoimage -quiet -no-pad -R -J -o "$OUT/genisoimage.iso" isotree
fi
