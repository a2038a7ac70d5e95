//! The law of the warehouse, for any order and any repetition of events.

use std::collections::HashMap;

use proptest::prelude::*;
use test_support::{assert_bounds, assert_limit};
use uuid::Uuid;

use super::*;

fn product_id(number: u8) -> ProductId {
    format!("p{number}").parse().expect("a product id")
}

fn order_id(number: u8) -> OrderId {
    OrderId::new(Uuid::from_u128(number.into()))
}

fn pieces(pieces: i64) -> Quantity {
    Quantity::try_from(pieces).expect("a quantity")
}

fn placed(order: u8, product: u8, quantity: i64) -> OrderLinePlaced {
    OrderLinePlaced {
        order_id: order_id(order),
        order_version: 1,
        user_id: "kim".parse().expect("a user id"),
        product_id: product_id(product),
        quantity: pieces(quantity),
    }
}

fn stocked(stock: &[i64]) -> Warehouse {
    let stock = (0..).map(product_id).zip(stock.iter().copied()).collect();
    Warehouse::new(BTreeMap::new(), stock)
}

fn available(warehouse: &Warehouse, product: u8) -> i64 {
    warehouse.stock[&product_id(product)]
}

fn reason(answer: Option<Answer>) -> Option<StockRefusal> {
    match answer {
        Some(Answer::Refused(failed)) => Some(failed.reason),
        Some(Answer::Deducted(_)) | None => None,
    }
}

#[test]
fn who_comes_first_is_served_until_nothing_is_left() {
    let mut warehouse = stocked(&[5]);
    assert!(matches!(warehouse.deduct(&placed(1, 0, 3)), Some(Answer::Deducted(_))));
    assert_eq!(reason(warehouse.deduct(&placed(2, 0, 3))), Some(StockRefusal::OutOfStock));
    assert!(matches!(warehouse.deduct(&placed(3, 0, 2)), Some(Answer::Deducted(_))));
    assert_eq!(available(&warehouse, 0), 0);
}

#[test]
fn what_is_not_sold_here_is_an_unknown_product() {
    assert_eq!(reason(stocked(&[]).deduct(&placed(1, 0, 1))), Some(StockRefusal::UnknownProduct));
}

#[test]
fn a_line_is_decided_once() {
    let mut warehouse = stocked(&[5]);
    assert!(warehouse.deduct(&placed(1, 0, 3)).is_some());
    assert_eq!(warehouse.deduct(&placed(1, 0, 3)), None);
    assert_eq!(available(&warehouse, 0), 2);
}

#[test]
fn a_cancelled_order_gets_back_what_it_holds_and_nothing_else() {
    let mut warehouse = stocked(&[5, 0]);
    warehouse.deduct(&placed(1, 0, 3));
    warehouse.deduct(&placed(1, 1, 1));
    let restored = warehouse.restore(order_id(1));
    let expected = StockRestored { order_id: order_id(1), product_id: product_id(0), quantity: pieces(3) };
    assert_eq!(restored, [expected]);
    assert_eq!(warehouse.restore(order_id(1)), []);
    assert_eq!((available(&warehouse, 0), available(&warehouse, 1)), (5, 0));
}

#[test]
fn a_line_that_comes_after_the_cancellation_gets_nothing() {
    let mut warehouse = stocked(&[5]);
    assert_eq!(warehouse.restore(order_id(1)), []);
    assert_eq!(reason(warehouse.deduct(&placed(1, 0, 3))), Some(StockRefusal::OrderCancelled));
    assert_eq!(available(&warehouse, 0), 5);
}

fn product(price: i64, stock: i64) -> Product {
    let name = ProductName::try_from("Tea".to_owned()).expect("a name");
    let (price, stock) = (Price::try_from(price).expect("a price"), Stock::try_from(stock).expect("a stock"));
    Product::new(product_id(1), name, price, stock)
}

#[test]
fn a_price_that_does_not_change_makes_no_version() {
    let price = |won| Price::try_from(won).expect("a price");
    let mut product = product(100, 1);
    assert_eq!(product.change_price(price(100)), None);
    let catalogue = product.change_price(price(90)).expect("another price");
    assert_eq!((catalogue.price.get(), catalogue.version), (90, FIRST_VERSION + 1));
}

#[test]
fn a_shelf_that_would_overflow_stays_as_it_is() {
    let pieces = |pieces| Pieces::try_from(pieces).expect("pieces");
    let mut product = product(0, Stock::MAX - 1);
    assert_eq!(product.restock(pieces(2)), Err(ShelfFull));
    assert_eq!(product.restock(pieces(1)), Ok(()));
    assert_eq!(product.stock, Stock::MAX);
}

#[test]
fn what_a_product_cannot_be_is_refused() {
    assert!(ProductName::try_from("김".repeat(ProductName::MAX_CHARS)).is_ok());
    for name in [String::new(), " \u{3000}".to_owned(), "x".repeat(201), "a\nb".to_owned(), "\u{7f}".to_owned()] {
        assert_eq!(ProductName::try_from(name), Err(Invalid::Name));
    }
    for price in [-1, Price::MAX + 1, i64::MIN, i64::MAX] {
        assert_eq!(Price::try_from(price), Err(Invalid::Price));
    }
    for stock in [-1, Stock::MAX + 1, i64::MIN, i64::MAX] {
        assert_eq!(Stock::try_from(stock), Err(Invalid::Stock));
    }
    for pieces in [0, -1, Pieces::MAX + 1, i64::MIN, i64::MAX] {
        assert_eq!(Pieces::try_from(pieces), Err(Invalid::Pieces));
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Line { order: u8, product: u8, quantity: i64 },
    Cancel { order: u8 },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let line = (0_u8..6, 0_u8..4, 1_i64..8).prop_map(|(order, product, quantity)| Happening::Line {
        order,
        product,
        quantity,
    });
    let cancel = (0_u8..6).prop_map(|order| Happening::Cancel { order });
    prop::collection::vec(prop_oneof![3 => line, 1 => cancel], 0..60)
}

proptest! {
    #[test]
    fn stock_is_conserved_and_never_below_zero(happenings in happenings(), stock in prop::collection::vec(0_i64..20, 3)) {
        // Product 3 doesn't exist.
        let mut warehouse = stocked(&stock);
        let mut answered = HashMap::new();
        let mut given_back = HashMap::new();
        for happening in happenings {
            match happening {
                Happening::Line { order, product, quantity } => {
                    if warehouse.deduct(&placed(order, product, quantity)).is_some() {
                        *answered.entry((order, product)).or_insert(0) += 1;
                    }
                }
                Happening::Cancel { order } => {
                    for restored in warehouse.restore(order_id(order)) {
                        *given_back.entry((restored.order_id, restored.product_id)).or_insert(0) += 1;
                    }
                }
            }
            for (product, initial) in (0_u8..).zip(&stock) {
                let held: i64 = warehouse.orders.values().filter(|order| !order.cancelled)
                    .filter_map(|order| order.lines.get(&product_id(product)))
                    .filter(|line| line.state == LineState::Held)
                    .map(|line| i64::from(line.quantity.get())).sum();
                prop_assert!(available(&warehouse, product) >= 0);
                prop_assert_eq!(available(&warehouse, product) + held, *initial);
                let taken = warehouse.changes().taken.get(&product_id(product)).copied().unwrap_or_default();
                let given_back: i64 = warehouse.changes().restored.iter()
                    .filter(|(_, restored)| *restored == product_id(product))
                    .map(|(order, product)| i64::from(warehouse.orders[order].lines[product].quantity.get())).sum();
                prop_assert_eq!(initial - taken + given_back, available(&warehouse, product), "what is saved is what was decided");
            }
        }
        prop_assert!(answered.values().all(|times| *times == 1));
        prop_assert!(given_back.values().all(|times| *times == 1));
        let held_for_nobody = warehouse.orders.values().filter(|order| order.cancelled)
            .flat_map(|order| order.lines.values())
            .any(|line| line.state == LineState::Held);
        prop_assert!(!held_for_nobody);
    }
}

#[test]
fn the_document_says_the_limit_that_is_checked() {
    assert_limit::<ProductName>("/maxLength", ProductName::MAX_CHARS);
    assert_bounds::<Price>();
    assert_bounds::<Stock>();
    assert_bounds::<Pieces>();
}
