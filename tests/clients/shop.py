"""A customer and an operator of the running suite, by the clients that openapi-python-client made of its documents."""

import os
import time
import uuid

from coupon_service.api.coupons import create_coupon, issue_coupon, my_claim
from coupon_service.models import Admitted, Claim, ClaimStatus, Coupon, CouponMode, NewCoupon, NewDiscount
from coupon_service.models import DiscountKind
from data_platform.api.admin import list_audit as deliveries_audit
from order_service.api.admin import list_audit as orders_audit
from order_service.api.orders import cancel_order, get_order, list_orders, place_order
from order_service.models import CancelOrder, Order, OrderTaken, PlaceOrder, PlaceOrderLine, Problem, Status
from payment_service.api.payments import get_payment
from payment_service.api.points import charge_points, get_points, list_history
from payment_service.models import ChargePoints, PaymentStatus
from product_service.api.products import create_product, find_product
from product_service.models import NewProduct
from ranking_service.api.rankings import rank_products
from saga_monitor.api.admin import list_audit, list_dead_letters
from saga_monitor.api.alarms import list_alarms
from saga_monitor.api.consumers import list_consumers
from saga_monitor.api.events import list_events, where_is
from saga_monitor.api.sagas import get_saga, list_sagas
from saga_monitor.models import State

PATIENCE_S = 30


def client(service, user, roles):
    """Of that service's own package: each client has its classes."""
    package = __import__(service.replace("-", "_"), fromlist=["AuthenticatedClient"])
    name = "DATA_PLATFORM_SERVICE" if service == "data-platform" else service.replace("-", "_").upper()
    return package.AuthenticatedClient(
        base_url=os.environ[f"{name}_URL"],
        token=user,
        auth_header_name="X-User-Id",
        prefix="",
        headers={"X-Roles": roles},
        timeout=35,
        raise_on_unexpected_status=True,
    )


def answered(response, status):
    """What was answered, which has to be that."""
    assert response.status_code == status, (response.status_code, response.content)
    assert response.parsed is not None, response.content
    return response.parsed


def eventually(what, ask):
    """Services hear of each other's doings a moment later."""
    until = time.monotonic() + PATIENCE_S
    while (found := ask()) is None:
        assert time.monotonic() < until, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.2)
    return found


def key():
    return str(uuid.uuid4())


def sell_a_mug():
    product_id = f"mug-{uuid.uuid4()}"
    mug = NewProduct(name="Mug", price=12_000, stock=10, product_id=product_id)
    products = client("product-service", "boss", "admin")
    assert answered(create_product.sync_detailed(client=products, body=mug), 201).stock == 10
    return product_id


def buy(product_id):
    """Points, an order, its end, and its payment."""
    kim = f"kim-{uuid.uuid4()}"
    points = client("payment-service", kim, "customer")
    charge = charge_points.sync_detailed(client=points, body=ChargePoints(amount=50_000), idempotency_key=key())
    assert answered(charge, 200).balance == 50_000

    orders = client("order-service", kim, "customer")
    basket = PlaceOrder(lines=[PlaceOrderLine(product_id=product_id, quantity=2)])

    def place():
        response = place_order.sync_detailed(client=orders, body=basket, idempotency_key=key())
        if response.status_code == 422:
            assert isinstance(response.parsed, Problem) and response.parsed.code == "unknown-product", response.content
            return None
        return answered(response, 202)

    taken = eventually("order-service hears of the product", place)
    assert isinstance(taken, OrderTaken) and taken.status is Status.PENDING
    order = answered(get_order.sync_detailed(taken.order_id, client=orders, prefer="wait=30"), 200)
    assert isinstance(order, Order) and order.status is Status.CONFIRMED and order.total == 24_000, order
    listed = answered(list_orders.sync_detailed(client=orders), 200).items
    assert [found.order_id for found in listed] == [order.order_id]
    payment = answered(get_payment.sync_detailed(order.order_id, client=points), 200)
    assert payment.status is PaymentStatus.COMPLETED and payment.amount == 24_000
    assert answered(get_points.sync_detailed(client=points), 200).balance == 26_000
    assert len(answered(list_history.sync_detailed(client=points), 200).items) == 2
    nobody_s = get_order.sync_detailed(uuid.uuid4(), client=orders)
    assert isinstance(nobody_s.parsed, Problem) and nobody_s.parsed.code == "not-found"
    return orders, order


def claim_a_coupon():
    boss = client("coupon-service", "boss", "admin")
    ten_percent = NewDiscount(kind=DiscountKind.PERCENT, value=10, max_=5_000)
    wanted = NewCoupon(name="Autumn", mode=CouponMode.RANKED, quantity=3, discount=ten_percent)
    coupon = answered(create_coupon.sync_detailed(client=boss, body=wanted), 201)
    assert isinstance(coupon, Coupon) and coupon.issued == 0
    kim = client("coupon-service", "kim", "customer")
    admitted = answered(issue_coupon.sync_detailed(coupon.coupon_id, client=kim), 202)
    assert isinstance(admitted, Admitted) and admitted.rank == 1

    def issued():
        claim = answered(my_claim.sync_detailed(coupon.coupon_id, client=kim), 200)
        assert isinstance(claim, Claim)
        return claim if claim.status is ClaimStatus.ISSUED else None

    assert eventually("the coupon is issued", issued).rank == 1


def cancel(orders, order):
    why = CancelOrder(reason="too blue")
    cancelled = answered(cancel_order.sync_detailed(order.order_id, client=orders, body=why), 202)
    assert cancelled.status is Status.CANCELLED and cancelled.reason == "CUSTOMER", cancelled


def operate(order):
    """What an operator sees of it all."""
    monitor = client("saga-monitor", "olga", "operator")

    def compensated():
        response = get_saga.sync_detailed(str(order.order_id), client=monitor)
        if response.status_code == 404:
            return None
        saga = answered(response, 200)
        return saga if saga.state is State.COMPENSATED else None

    saga = eventually("the saga is compensated", compensated)
    assert saga.steps and all(pair.done == pair.undone for pair in saga.pairs), saga.pairs
    sagas = answered(list_sagas.sync_detailed(client=monitor, limit=5), 200)
    assert sagas.items, sagas
    events = answered(list_events.sync_detailed(client=monitor, trace_id=order.trace_id), 200)
    assert any(step.event_type == "order-cancelled" for step in events.items), events
    event = next(step for step in events.items if step.event_id)
    assert answered(where_is.sync_detailed(event.event_id, client=monitor), 200).groups
    answered(list_alarms.sync_detailed(client=monitor), 200)
    assert answered(list_consumers.sync_detailed(client=monitor), 200).items
    answered(list_dead_letters.sync_detailed(client=monitor), 200)
    answered(list_audit.sync_detailed(client=monitor), 200)
    answered(orders_audit.sync_detailed(client=client("order-service", "olga", "operator")), 200)
    answered(deliveries_audit.sync_detailed(client=client("data-platform", "olga", "operator")), 200)


def main():
    product_id = sell_a_mug()
    orders, order = buy(product_id)
    ranking = answered(rank_products.sync_detailed(client=client("ranking-service", "kim", "customer")), 200)
    assert ranking.window, ranking
    claim_a_coupon()
    cancel(orders, order)
    operate(order)
    products = client("product-service", "kim", "customer")

    def mugs():
        return answered(find_product.sync_detailed(product_id, client=products), 200)

    eventually("the mugs are back", lambda: mugs().stock == 10 or None)


if __name__ == "__main__":
    main()
