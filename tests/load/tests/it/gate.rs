//! A coupon-service of one coupon, in memory, that can be told to cheat.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::Method, web};
use load::sale::Sale;
use serde_json::json;
use system::{Shop, Urls};

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The last coupon is given out twice.
    OneTooMany,
    /// Who comes third is told 202 and forgotten.
    ForgetsTheThird,
    /// Two share a rank.
    SharesARank,
    /// Every other request is answered with 503, before it is looked at.
    OftenUndecided,
}

#[derive(Debug)]
struct Book {
    quantity: usize,
    fault: Fault,
    requests: usize,
    holders: BTreeMap<String, usize>,
}

/// The running service. It ends with its test's process.
pub(crate) struct Gate {
    pub(crate) shop: Shop,
    pub(crate) sale: Sale,
    _server: ServerHandle,
}

impl Gate {
    /// With so many coupons.
    pub(crate) fn open(quantity: usize, fault: Fault) -> Self {
        let book = Book { quantity, fault, requests: 0, holders: BTreeMap::new() };
        let book = web::Data::new(Mutex::new(book));
        let app = move || App::new().app_data(book.clone()).default_service(web::to(answer));
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).expect("a free port");
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        let shop = Shop::at(Urls { coupon: url, ..Urls::from_env() });
        let sale = Sale::of(&shop, "gift".parse().expect("an id"), i64::try_from(quantity).expect("a few"));
        Self { shop, sale, _server: handle }
    }
}

async fn answer(request: HttpRequest, book: web::Data<Mutex<Book>>) -> HttpResponse {
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let user = request.headers().get("x-user-id").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match (request.method(), request.path()) {
        (&Method::POST, "/coupons/gift/issue") => book.issue(user),
        (&Method::GET, "/coupons/gift/claims/me") => book.claim(user),
        (&Method::GET, "/coupons/gift") => book.show(),
        _ => HttpResponse::NotFound().finish(),
    }
}

impl Book {
    fn issue(&mut self, user: &str) -> HttpResponse {
        self.requests += 1;
        if self.fault == Fault::OftenUndecided && self.requests.is_multiple_of(2) {
            return HttpResponse::ServiceUnavailable().finish();
        }
        let quantity = self.quantity + usize::from(self.fault == Fault::OneTooMany);
        if self.holders.contains_key(user) {
            return HttpResponse::Conflict().finish();
        }
        if self.holders.len() >= quantity {
            return HttpResponse::Gone().finish();
        }
        let rank = match self.fault {
            Fault::SharesARank => self.holders.len().max(1),
            _ => self.holders.len() + 1,
        };
        if !(self.fault == Fault::ForgetsTheThird && self.requests == 3) {
            self.holders.insert(user.to_owned(), rank);
        }
        HttpResponse::Accepted().json(json!({ "couponId": "gift", "userId": user, "status": "ADMITTED", "rank": rank }))
    }

    fn claim(&self, user: &str) -> HttpResponse {
        HttpResponse::Ok().json(match self.holders.get(user) {
            Some(rank) => json!({ "status": "ISSUED", "rank": rank }),
            None => json!({ "status": "NONE" }),
        })
    }

    fn show(&self) -> HttpResponse {
        let (held, quantity) = (self.holders.len(), self.quantity);
        HttpResponse::Ok().json(json!({
            "couponId": "gift", "mode": "ranked", "quantity": quantity, "admitted": held, "issued": held,
            "remaining": quantity.saturating_sub(held), "state": "OPEN",
        }))
    }
}
