//! The roles of the book: users of redis.conf, with the commands of the module that each needs.

/// The file that is shipped.
const REDIS_CONF: &str = include_str!("../../../redis.conf");

/// A role, and the module's commands that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    pub commands: Vec<String>,
}

/// Those of redis.conf that have commands of the module.
pub fn all() -> Vec<Role> {
    let users = REDIS_CONF.lines().filter_map(|line| line.strip_prefix("#user "));
    let roles = users.filter_map(|user| {
        let mut words = user.split(' ');
        let name = words.next()?.to_owned();
        let commands: Vec<String> =
            words.filter(|word| word.starts_with("+gw.")).map(|word| word[1..].to_owned()).collect();
        (!commands.is_empty()).then_some(Role { name, commands })
    });
    roles.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_conf_has_roles() {
        let roles = all();
        let names: Vec<&str> = roles.iter().map(|role| &*role.name).collect();
        assert_eq!(names, ["gateway", "shipper", "billing", "accountant", "monitor", "operator"]);
        assert!(roles[0].commands.contains(&"gw.admit".to_owned()), "{roles:?}");
    }
}
