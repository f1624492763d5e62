cat >acme.wxs <<'C'
<?xml version="1.0"?>
<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi">
  <Product Id="12345678-1234-1234-1234-123456789012" Name="Acme Scope" Language="1033" Version="1.2.3"
      Manufacturer="Acme" UpgradeCode="12345678-1234-1234-1234-123456789013">
    <Package InstallerVersion="200" Compressed="yes"/>
    <Media Id="1" Cabinet="acme.cab" EmbedCab="yes"/>
    <Directory Id="TARGETDIR" Name="SourceDir">
      <Directory Id="ProgramFilesFolder"><Directory Id="INSTALLDIR" Name="Acme">
        <Component Id="main" Guid="12345678-1234-1234-1234-123456789014">
          <File Id="f1" Source="bin/prog" Name="acme-scope.exe"/>
          <ServiceInstall Id="s" Name="acme" Type="ownProcess" Start="auto" ErrorControl="normal"/>
        </Component>
      </Directory></Directory>
    </Directory>
    <Feature Id="all" Level="1"><ComponentRef Id="main"/></Feature>
  </Product>
</Wix>
C
wixl -o "$OUT/acme.msi" acme.wxs
