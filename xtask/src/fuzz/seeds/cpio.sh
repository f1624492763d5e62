cd tree
for format in newc crc; do
    find usr etc opt/acme | sort | cpio -o --quiet --reproducible -R 0:0 -H $format >"$OUT/$format.cpio"
done
for compressor in gzip xz zstd bzip2; do
    if command -v $compressor >/dev/null; then
        $compressor -c "$OUT/newc.cpio" >"$OUT/cpio.$compressor"
    fi
done
