//! The users that exist from the start: the operator's root, and `[[users]]`.

use drystone_store::types::{Account, AccountId};
use sha2::{Digest as _, Sha256};

use super::checked::User;
use super::error::{Error, invalid};
use super::keys::{Keys, Secret};
use super::settings::{RootLayer, UserLayer};

/// The account that root belongs to unless the configuration names another.
const FIRST_ACCOUNT: &str = "000000000001";
const ACCOUNT_ID_LEN: usize = 12;
const CANONICAL_ID_LEN: usize = 64;

/// Returns root's keys, if they are given, and root itself.
pub(super) fn resolve_root(layer: RootLayer) -> Result<(Option<Keys>, User), Error> {
    let keys = match (layer.user, layer.password) {
        (Some(user), Some(secret_key)) => Some(Keys {
            access_key: user.expose().to_owned(),
            secret_key,
        }),
        (None, None) => None,
        (Some(_), None) => return invalid("root user is given but no root password".into()),
        (None, Some(_)) => return invalid("root password is given but no root user".into()),
    };
    let id = layer.account.unwrap_or_else(|| FIRST_ACCOUNT.to_owned());
    let user = User {
        name: "root".to_owned(),
        keys: keys.clone().unwrap_or_else(|| Keys {
            access_key: String::new(),
            secret_key: Secret::from(String::new()),
        }),
        account: account("root", id, layer.display_name, layer.canonical_id)?,
    };
    Ok((keys, user))
}

/// Returns the users. Each name and access key may occur once, and all users of an account must
/// describe it alike.
pub(super) fn resolve(
    layers: Vec<UserLayer>,
    root: Option<&Keys>,
    root_user: &User,
) -> Result<Vec<User>, Error> {
    let mut users: Vec<User> = Vec::new();
    for layer in layers {
        let name = layer.name;
        let known = || users.iter().chain(std::iter::once(root_user));
        if name.is_empty() || known().any(|user| user.name == name) {
            return invalid(format!("user {name:?}: the name is empty or taken"));
        }
        let mut taken = users.iter().map(|user| &user.keys).chain(root);
        if taken.any(|keys| keys.access_key == layer.access_key) {
            let key = layer.access_key;
            return invalid(format!("user {name}: access key {key} is taken"));
        }
        let same = known()
            .map(|user| &user.account)
            .find(|account| account.id.0 == layer.account);
        let display_name = layer
            .display_name
            .or_else(|| same.map(|account| account.display_name.clone()));
        let canonical_id = layer
            .canonical_id
            .or_else(|| same.map(|account| account.canonical_id.clone()));
        let account = account(&name, layer.account, display_name, canonical_id)?;
        if same.is_some_and(|same| *same != account) {
            let id = account.id.0;
            return invalid(format!(
                "user {name}: account {id} has another display name or canonical id elsewhere; \
                 they belong to the account and must be the same"
            ));
        }
        let mut others = known().filter(|user| user.account.id != account.id);
        if others.any(|user| user.account.canonical_id == account.canonical_id) {
            return invalid(format!(
                "user {name}: another account has the same canonical id"
            ));
        }
        let keys = Keys {
            access_key: layer.access_key,
            secret_key: layer.secret_key,
        };
        users.push(User {
            name,
            keys,
            account,
        });
    }
    Ok(users)
}

fn account(
    user: &str,
    id: String,
    display_name: Option<String>,
    canonical_id: Option<String>,
) -> Result<Account, Error> {
    if id.len() != ACCOUNT_ID_LEN || !id.bytes().all(|b| b.is_ascii_digit()) {
        return invalid(format!(
            "user {user}: account {id:?}: expected {ACCOUNT_ID_LEN} digits"
        ));
    }
    let canonical_id =
        canonical_id.unwrap_or_else(|| hex::encode(Sha256::digest(format!("account {id}"))));
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if canonical_id.len() != CANONICAL_ID_LEN || !canonical_id.bytes().all(hexadecimal) {
        return invalid(format!(
            "user {user}: canonical_id: expected {CANONICAL_ID_LEN} digits of 0-9 and a-f"
        ));
    }
    Ok(Account {
        display_name: display_name.unwrap_or_else(|| user.to_owned()),
        id: AccountId(id),
        canonical_id,
    })
}
