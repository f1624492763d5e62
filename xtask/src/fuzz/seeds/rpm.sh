cat >acme.spec <<'C'
Name: acme-scope
Version: 1.2
Release: 3
Epoch: 1
Summary: scope driver
License: Proprietary
Vendor: Acme
Requires: libusb >= 1.0, /bin/sh
Conflicts: acme < 1
Provides: scope = 2
Recommends: udev
%description
For scopes.
%install
mkdir -p %{buildroot}
cp -a %{tree}/. %{buildroot}/
%post
/sbin/ldconfig
useradd -r acme
%preun
systemctl disable acme
%triggerin -- udev
udevadm control --reload
%files
%defattr(-,root,root)
/opt
/usr
%config(noreplace) /etc/ld.so.conf.d/acme.conf
C
for payload in w.ufdio w9.gzdio w2.xzdio w3.zstdio w9.bzdio; do
    rpmbuild -bb --define "_topdir $PWD/rpm" --define "tree $PWD/tree" --define "_binary_payload $payload" \
        --define '_build_id_links none' --define '__os_install_post %{nil}' --define 'debug_package %{nil}' \
        --define 'use_source_date_epoch_as_buildtime 1' --define '_buildhost example' \
        --nodeps acme.spec >rpm.log 2>&1 || { cat rpm.log >&2; continue; }
    find rpm/RPMS -name '*.rpm' -exec mv {} "$OUT/$payload.rpm" \;
done
