//! What contradicts something else in a service.

use proxy::config::{InputError, list};

use super::Checker;
use crate::scenario::Service;

impl Checker<'_> {
    pub(super) fn service(&self, index: usize, service: &Service) -> Result<(), InputError> {
        let field = |name: &str| format!("services[{index}].{name}");
        let services = &self.file.services;
        let name = service.name.get_ref();
        if services[..index].iter().any(|earlier| earlier.name.get_ref() == name) {
            let message = format!("`{name}` names an earlier service too; names must differ");
            return Err(self.wrong(field("name"), &service.name, message));
        }
        if service.instances.is_some() != service.groups.is_empty() {
            let message = "give `instances` or `groups`, one of them".to_owned();
            return Err(self.wrong(field("instances"), &service.name, message));
        }
        if let Some(called) = &service.calls {
            let later: Vec<_> = services[index + 1..].iter().map(|s| s.name.get_ref()).collect();
            if !later.contains(&called.get_ref()) {
                let later: Vec<_> = later.into_iter().map(String::as_str).collect();
                let message = format!(
                    "a service calls one that stands below it, so that no request runs in a \
                     circle; there is {}",
                    list(&later)
                );
                return Err(self.wrong(field("calls"), called, message));
            }
        }
        let called = |other: &Service| other.calls.as_ref().is_some_and(|c| c.get_ref() == name);
        if index > 0 && !services.iter().any(called) {
            let message = format!("nobody calls `{name}`; write `calls` at the service that does");
            return Err(self.wrong(field("name"), &service.name, message));
        }
        Ok(())
    }
}
