//! What somebody does from outside in a history: stock, points and coupons to begin with, orders, cancels, time that passes.

use anyhow::Context;
use common_events::{IssuedCouponId, OrderId, ProductId, Quantity, Topic, UserId, Won};
use coupon_service::domain::Coupon;
use rand::{
    RngExt,
    seq::{IndexedRandom, SliceRandom},
};
use uuid::Uuid;

use crate::{broker::Message, history::History, sale};

/// What somebody does.
pub(crate) enum Action {
    Place { user: UserId, lines: Vec<(ProductId, Quantity)>, wish: Wish },
    CancelOne,
    TimeOut,
}

/// Which coupon a customer means to use.
#[derive(Clone, Copy)]
pub(crate) enum Wish {
    None,
    /// One of those he holds by then, if any.
    HisOwn,
    /// One that somebody else holds.
    AnothersOwn,
    /// One that nobody holds.
    Nobodys,
}

/// What a history is about.
#[derive(Default)]
pub(crate) struct Scene {
    pub(crate) orders: Vec<OrderId>,
    /// Each with the pieces it began with.
    pub(crate) products: Vec<(ProductId, i64)>,
    pub(crate) users: Vec<UserId>,
    pub(crate) coupons: Vec<Coupon>,
}

impl History<'_> {
    /// Puts products, accounts and coupons there, and decides what will be done.
    pub(crate) async fn set_the_scene(&mut self) -> anyhow::Result<()> {
        // Ids are new in every run, so that one database serves many histories.
        let unique = Uuid::now_v7().simple().to_string();
        for n in 0..self.chance.random_range(1..=3) {
            let product: ProductId = format!("p{n}-{unique}").parse()?;
            let pieces = self.chance.random_range(0..=12);
            self.shop.stock(&product, Won::try_from(self.chance.random_range(0..=5) * 100)?, pieces).await?;
            self.scene.products.push((product, pieces));
        }
        for n in 0..self.chance.random_range(1..=3) {
            let user: UserId = format!("u{n}-{unique}").parse()?;
            let limit = if self.chance.random_bool(0.2) { Some(Won::try_from(900)?) } else { None };
            self.shop.charge(&user, Won::try_from(self.chance.random_range(1..=40) * 100)?, limit).await?;
            self.scene.users.push(user);
        }
        let early = self.chance.random_bool(0.7);
        if early {
            self.open_sales(&unique).await?;
        }
        // Products are known to order-service before the first order comes; coupons not always to their holders.
        self.quiet().await?;
        if !early {
            self.open_sales(&unique).await?;
        }
        self.plan()
    }

    /// Up to two coupons, and admissions to them as the gate publishes them: past any outbox.
    async fn open_sales(&mut self, unique: &str) -> anyhow::Result<()> {
        for n in 0..self.chance.random_range(0..=2) {
            let coupon = sale::coupon(&mut self.chance, &format!("c{n}-{unique}"))?;
            self.shop.put_up(&coupon).await?;
            for admission in sale::admissions(&mut self.chance, &coupon, &self.scene.users)? {
                self.broker.append(Message {
                    topic: Topic::CouponIssueRequested.name().to_owned(),
                    key: Some(coupon.coupon_id.as_str().into()),
                    value: Some(admission),
                    headers: Vec::new(),
                });
            }
            self.scene.coupons.push(coupon);
        }
        Ok(())
    }

    fn plan(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.chance.random_range(1..=4) {
            let user = self.scene.users.choose(&mut self.chance).context("a user")?.clone();
            let mut lines = Vec::new();
            for (product, _) in &self.scene.products {
                if lines.is_empty() || self.chance.random_bool(0.6) {
                    lines.push((product.clone(), Quantity::try_from(self.chance.random_range(1..=3))?));
                }
            }
            let wish = match self.chance.random_range(0..100) {
                0..40 => Wish::None,
                40..85 => Wish::HisOwn,
                85..93 => Wish::AnothersOwn,
                _ => Wish::Nobodys,
            };
            self.actions.push(Action::Place { user, lines, wish });
            if self.chance.random_bool(0.3) {
                self.actions.push(Action::CancelOne);
            }
        }
        if self.chance.random_bool(0.15) {
            self.actions.push(Action::TimeOut);
        }
        self.actions.shuffle(&mut self.chance);
        Ok(())
    }

    pub(crate) async fn act(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Place { user, lines, wish } => {
                let coupon = self.wished_for(&user, wish).await?;
                self.scene.orders.push(self.shop.place(&user, &lines, coupon).await?);
            }
            Action::CancelOne => {
                if let Some(order) = self.scene.orders.choose(&mut self.chance) {
                    self.shop.cancel(*order).await?;
                    self.outcome.count("cancels", 1);
                }
            }
            Action::TimeOut => {
                self.shop.time_out().await?;
                self.outcome.count("times when every open order was late", 1);
            }
        }
        Ok(())
    }

    async fn wished_for(&mut self, user: &UserId, wish: Wish) -> anyhow::Result<Option<IssuedCouponId>> {
        let held = self.shop.held_by(&self.scene.users).await?;
        let (own, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|(holder, _)| holder == user);
        let of = match wish {
            Wish::None => return Ok(None),
            Wish::Nobodys => return Ok(Some(IssuedCouponId::new(Uuid::now_v7()))),
            Wish::HisOwn => own,
            Wish::AnothersOwn => others,
        };
        Ok(of.choose(&mut self.chance).map(|(_, coupon)| *coupon))
    }
}
