#if DEBUG
    // What holds between any two calls. Debug builds can check it; the property tests do, step after step.

    extension PagePool {
        /// Every page is used or free, once. O(pages).
        func checkInvariants() {
            precondition(Set(free).count == free.count, "a page is free twice")
            for (page, count) in references.enumerated() {
                precondition(count >= 0, "page \(page) was released more often than retained")
                precondition((count == 0) == free.contains(Page(page)), "page \(page) is free with holders, or lost without")
            }
        }
    }

    extension PageTable {
        /// Every page of the table is held, and none is there twice. O(pages).
        func checkInvariants(_ pool: PagePool) {
            precondition(Set(pages).count == pages.count, "a page stands at two positions")
            for page in pages { precondition(pool.holders(page) > 0, "page \(page) is free and in a table") }
        }
    }

    extension PrefixCache {
        /// The tree's runs, pages and marks fit together, and the ring has every node once, children before parents. O(tokens).
        func checkInvariants() {
            pool.checkInvariants()
            var places: [ObjectIdentifier: Int] = [ObjectIdentifier(root): .max]
            var node = root.newer
            while let here = node, here !== root {
                precondition(places.updateValue(places.count, forKey: ObjectIdentifier(here)) == nil, "a node is in the ring twice")
                precondition(here.newer?.older === here && here.older?.newer === here, "the ring is broken")
                node = here.newer
            }
            var (stack, holders, count) = ([root], [PagePool.Page: Int](), 1)
            while let here = stack.popLast() {
                precondition(here.marks.count == here.tokens.count, "a token has no mark")
                if here !== root {
                    let last = (here.start + here.tokens.count - 1) / PagePool.pageSize
                    precondition(!here.tokens.isEmpty && here.pages.count == last - here.firstPage + 1, "a run does not fit its pages")
                }
                for page in here.pages { holders[page, default: 0] += 1 }
                for (token, child) in here.children {
                    precondition(child.tokens.first == token && child.parent === here, "a child stands under another token")
                    precondition(child.start == here.start + here.tokens.count, "a child does not begin where its parent ends")
                    let (own, above) = (places[ObjectIdentifier(child)], places[ObjectIdentifier(here)])
                    precondition(own != nil && (own ?? 0) < (above ?? 0), "a child was used later than its parent")
                    count += 1
                    stack.append(child)
                }
            }
            precondition(count == places.count, "the ring has nodes that the tree has not")
            for (page, held) in holders { precondition(pool.holders(page) >= held, "page \(page) has fewer holders than nodes") }
        }
    }

    extension ChunkTree {
        /// Leaves hold tables and inner nodes none; what grows is a leaf. O(chunks).
        func checkInvariants() {
            var (stack, open) = ([root], 0)
            while let chunk = stack.popLast() {
                precondition((chunk.table != nil) == chunk.children.isEmpty, "a chunk is neither leaf nor inner node")
                if chunk.isGrowing {
                    open += 1
                    precondition(chunk.children.isEmpty && growing.contains { $0 === chunk }, "what grows is not asked for rows")
                }
                for child in chunk.children {
                    precondition(child.level == chunk.level + 1 && child.branch.count > chunk.branch.count, "a child is no deeper")
                    stack.append(child)
                }
            }
            precondition(open == growing.count, "something grows outside of the tree")
        }
    }

    extension Engine {
        /// All of the above for everything that runs.
        func checkInvariants() {
            cache.checkInvariants()
            for job in jobs {
                (job.table ?? job.method?.history?.table)?.checkInvariants(cache.pool)
                switch job.method {
                case let method as StreamingLookAhead: method.tree.checkInvariants()
                case let method as MonteCarloTreeSearch: method.tree.checkInvariants()
                case let method as BestOf: method.tree.checkInvariants()
                default: break
                }
            }
        }
    }
#endif
