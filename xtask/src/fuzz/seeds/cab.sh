(cd tree/opt/acme && gcab -c "$OUT/stored.cab" prog libf.so && gcab -c -z "$OUT/mszip.cab" prog libf.so)
(cd tree && gcab -c -z -n "$OUT/folders.cab" usr/bin/acme etc/ld.so.conf.d/acme.conf)
