//! Users and groups: those that every Debian has (base-passwd's lists) and those that packages ask for (sysusers.d(5)).
//!
//! They become `/etc/passwd` and `/etc/group` of the tree. At launch the machine adds the user that the tool runs as.

use std::collections::BTreeMap;

use super::generate::write;
use super::merge::Merge;
use crate::error::Error;
use crate::store::Workspace;
use crate::store::manifest::Node;

/// Where ids without a wish are taken from, downwards: systemd's and Debian's `SYS_UID_MAX`.
const FIRST_FREE: u32 = 999;
/// Below that are ids that Debian gave to somebody.
const LAST_FREE: u32 = 101;
/// Bytes of one configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    id: u32,
    /// For a user the group's id, else unused.
    group: u32,
    /// For a user "gecos:home:shell", for a group its members.
    rest: String,
}

#[derive(Debug, Default)]
struct Accounts {
    users: BTreeMap<String, Account>,
    groups: BTreeMap<String, Account>,
}

/// Writes both files, where there is anything to write.
pub(crate) fn add(merge: &mut Merge, workspace: &Workspace<'_>) -> Result<(), Error> {
    let mut accounts = Accounts::default();
    let read = |path: &str| -> Result<String, Error> {
        match merge.node(path) {
            Some(Node::File { sha256, executable, size }) if *size <= FILE_BYTES_MAX => {
                Ok(String::from_utf8_lossy(&workspace.read(*sha256, *executable)?).into_owned())
            }
            _ => Ok(String::new()),
        }
    };
    accounts
        .master(&read("usr/share/base-passwd/passwd.master")?, &read("usr/share/base-passwd/group.master")?);
    // A name in /etc hides the same one in /usr/lib; the order is that of the names.
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for folder in ["usr/lib/sysusers.d", "etc/sysusers.d"] {
        let names = merge.names(folder).into_iter().filter(|name| name.ends_with(".conf"));
        files.extend(names.map(|name| (name.clone(), format!("{folder}/{name}"))));
    }
    let mut lines = Vec::new();
    for path in files.values() {
        lines.extend(read(path)?.lines().filter_map(parse));
    }
    accounts.ask(&lines);
    let (passwd, group) = accounts.text();
    if merge.node("etc/passwd").is_none() && !passwd.is_empty() {
        write(merge, workspace, "etc/passwd", passwd.as_bytes())?;
    }
    if merge.node("etc/group").is_none() && !group.is_empty() {
        write(merge, workspace, "etc/group", group.as_bytes())?;
    }
    Ok(())
}

/// A line of sysusers.d: kind, name, id, description, home, shell; missing ones are empty.
type Line = [String; 6];

fn parse(line: &str) -> Option<Line> {
    let words = words(line)?;
    let mut fields: Line = Default::default();
    for (field, word) in fields.iter_mut().zip(words) {
        if word != "-" {
            *field = word;
        }
    }
    let plain = |name: &str| {
        !name.is_empty()
            && name.len() <= 31
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    (plain(&fields[1]) && fields.iter().all(|field| !field.contains([':', '\n']) || field == &fields[2]))
        .then_some(fields)
}

/// Words with double quotes around those with blanks. A comment has none.
fn words(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = Vec::new();
    let (mut word, mut quoted, mut any) = (String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '"' => (quoted, any) = (!quoted, true),
            blank if blank.is_whitespace() && !quoted => {
                if any {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            other => {
                word.push(other);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    Some(words)
}

impl Accounts {
    fn master(&mut self, passwd: &str, group: &str) {
        for line in passwd.lines() {
            let fields: Vec<&str> = line.splitn(5, ':').collect();
            if let [name, _, id, gid, rest] = fields[..]
                && let (Ok(id), Ok(group)) = (id.parse(), gid.parse())
            {
                self.users.insert(name.to_owned(), Account { id, group, rest: rest.to_owned() });
            }
        }
        for line in group.lines() {
            let fields: Vec<&str> = line.splitn(4, ':').collect();
            if let [name, _, id, members] = fields[..]
                && let Ok(id) = id.parse()
            {
                self.groups.insert(name.to_owned(), Account { id, group: 0, rest: members.to_owned() });
            }
        }
    }

    /// Groups first, then users, then memberships, as systemd-sysusers does.
    fn ask(&mut self, lines: &[Line]) {
        for line in lines.iter().filter(|line| line[0].starts_with('g')) {
            self.group(&line[1], line[2].parse().ok());
        }
        for line in lines.iter().filter(|line| line[0].starts_with('u')) {
            self.user(line);
        }
        for line in lines.iter().filter(|line| line[0] == "m") {
            self.group(&line[2], None);
            if let Some(group) = self.groups.get_mut(&line[2])
                && !group.rest.split(',').any(|member| member == line[1])
            {
                let comma = if group.rest.is_empty() { "" } else { "," };
                group.rest = format!("{}{comma}{}", group.rest, line[1]);
            }
        }
    }

    fn group(&mut self, name: &str, wish: Option<u32>) -> u32 {
        if let Some(there) = self.groups.get(name) {
            return there.id;
        }
        let id = wish.filter(|id| !self.is_taken(*id)).unwrap_or_else(|| self.free());
        self.groups.insert(name.to_owned(), Account { id, group: 0, rest: String::new() });
        id
    }

    fn user(&mut self, line: &Line) {
        let name = &line[1];
        if self.users.contains_key(name) {
            return;
        }
        let (id, gid) = line[2].split_once(':').map_or((line[2].as_str(), None), |(id, gid)| (id, Some(gid)));
        let id: Option<u32> = id.parse().ok();
        let group = match gid {
            Some(gid) => gid.parse().ok().or_else(|| self.groups.get(gid).map(|group| group.id)),
            None => None,
        };
        let group = group.unwrap_or_else(|| self.group(name, id));
        let is_free = |id: &u32| *id != 0 && !self.users.values().any(|user| user.id == *id);
        let id = [id, Some(group)].into_iter().flatten().find(is_free).unwrap_or_else(|| self.free());
        let or =
            |field: &String, default: &str| if field.is_empty() { default.to_owned() } else { field.clone() };
        let (home, shell) = (or(&line[4], "/"), or(&line[5], "/usr/sbin/nologin"));
        self.users.insert(name.clone(), Account { id, group, rest: format!("{}:{home}:{shell}", line[3]) });
    }

    /// 0 is root's, listed or not.
    fn is_taken(&self, id: u32) -> bool {
        id == 0 || self.users.values().chain(self.groups.values()).any(|account| account.id == id)
    }

    fn free(&self) -> u32 {
        (LAST_FREE..=FIRST_FREE).rev().find(|id| !self.is_taken(*id)).unwrap_or(65534)
    }

    /// By id, then name.
    fn text(&self) -> (String, String) {
        let sorted = |accounts: &BTreeMap<String, Account>| {
            let mut all: Vec<(u32, String, Account)> =
                accounts.iter().map(|(name, account)| (account.id, name.clone(), account.clone())).collect();
            all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            all
        };
        let users = sorted(&self.users).into_iter();
        let users = users.map(|(id, name, user)| format!("{name}:x:{id}:{}:{}\n", user.group, user.rest));
        let groups = sorted(&self.groups).into_iter();
        let groups = groups.map(|(id, name, group)| format!("{name}:x:{id}:{}\n", group.rest));
        (users.collect(), groups.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_users_come_beside_debians() {
        let mut accounts = Accounts::default();
        accounts.master(
            "root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n",
            "root:*:0:\ndaemon:*:1:\nvideo:*:44:\n",
        );
        let text = "# users\ng render -\nu messagebus - \"System Message Bus\" /nonexistent\nu acme 300 \"A C M E\" - /bin/sh\n\
                    u same 0\nm acme video\nm acme acme-extra\nu bad:name -\nu daemon 5\nr - 500-900\n";
        accounts.ask(&text.lines().filter_map(parse).collect::<Vec<_>>());
        let (passwd, group) = accounts.text();
        assert_eq!(
            passwd,
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
             acme:x:300:300:A C M E:/:/bin/sh\nsame:x:997:997::/:/usr/sbin/nologin\n\
             messagebus:x:998:998:System Message Bus:/nonexistent:/usr/sbin/nologin\n"
        );
        assert_eq!(
            group,
            "root:x:0:\ndaemon:x:1:\nvideo:x:44:acme\nacme:x:300:\nacme-extra:x:996:acme\nsame:x:997:\nmessagebus:x:998:\nrender:x:999:\n"
        );
    }
}
