make="-quiet -noappend -nopad -no-progress -all-root -processors 1"
for compressor in gzip xz zstd lzo lz4 lzma; do
    mksquashfs tree "$OUT/$compressor.squashfs" -comp $compressor $make >/dev/null 2>&1 || rm -f "$OUT/$compressor.squashfs"
done
mksquashfs tree "$OUT/stored.squashfs" -noI -noD -noF -noX -noId $make >/dev/null
mksquashfs tree "$OUT/blocks.squashfs" -noI -noD -noF -noX -noId -no-fragments -b 4096 -no-exports $make >/dev/null
mksquashfs tree "$OUT/pseudo.squashfs" -noI -noD -noF -p 'null c 666 0 0 1 3' -p 'disk b 660 0 0 8 0' $make >/dev/null
